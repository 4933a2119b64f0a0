# CycloneDX: the store paths of the image's layers, the wheels and the models of the locks.
{
  pkgs,
  python,
  image,
  spark-tts,
  project,
}:
pkgs.runCommand "${project.name}-${project.version}.cdx.json" { } ''
  ${python.interpreter} ${../scripts/sbom.py} --name ${project.name} --version ${project.version} \
    --upstream ${spark-tts.rev or "not-from-git"} --image ${image.conf} --locks ${../volume/pins} > $out
''
