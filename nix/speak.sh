# worker.speak with the user's arguments; what it wrote is played where there is a player for it.
"$python" -m worker.speak "$@"
case " $* " in
  *" --out"*) exit ;; # a file was asked for, not to hear it
esac
for player in pw-play paplay aplay; do
  if command -v "$player" >/dev/null; then exec "$player" speech.wav; fi
done
