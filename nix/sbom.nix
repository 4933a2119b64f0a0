# CycloneDX: the store paths of the image's layers, the wheels and the models of the locks.
{
  pkgs,
  python,
  image,
  project,
}:
pkgs.runCommand "${project.name}-${project.version}.cdx.json" { } ''
  ${python.interpreter} ${../scripts/sbom.py} --name ${project.name} --version ${project.version} \
    --image ${image.conf} --locks ${../volume/locks} > $out
''
