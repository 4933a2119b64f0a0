# What is on PYTHONPATH: the worker, the installer with its locks and the embedded model, upstream.
{
  pkgs,
  python,
  spark-tts,
}:
pkgs.runCommand "spark-tts-worker" { PYTHONHASHSEED = 0; } ''
  mkdir $out
  cp -r ${../worker} $out/worker
  cp -r ${../volume} $out/volume
  cp -r ${spark-tts}/sparktts $out/sparktts
  cp ${spark-tts}/LICENSE $out/sparktts/LICENSE
  chmod -R u+w $out
  # Made the locks, read by nothing that runs.
  rm -r $out/volume/pinning $out/volume/pins/environment.toml
  # The image's root may be read-only, and a start costs money.
  ${python.interpreter} -m compileall -q --invalidation-mode unchecked-hash $out
''
