# CycloneDX: the store paths of the image's layers, the wheels and the models of the locks.
{
  pkgs,
  python,
  image,
  spark-tts,
  project,
}:
pkgs.runCommand "${project.name}-${image.imageTag}.cdx.json" { } ''
  ${python.interpreter} ${../scripts/sbom.py} --name ${project.name} --version ${image.imageTag} \
    --upstream ${spark-tts.rev or "not-from-git"} --image ${image.conf} --locks ${../volume/pins} > $out
''
