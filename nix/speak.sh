# The arguments of worker.speak; played where this machine has a player for it.
# The embedded model can only clone, so it clones its own voice unless another is asked for.
if [ "$SPARK_MODEL" = demo ]; then
  case " $* " in
    *" --voice"*) ;;
    *) set -- "$@" --voice-from "$RUNPOD_VOLUME/SparkTTS-serverless/local/voices/demo.wav" ;;
  esac
fi
"$python" -m worker.speak "$@"
