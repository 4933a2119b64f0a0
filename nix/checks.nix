# What `nix flake check` builds besides the packages, on the environment of the lock.
{
  self,
  pkgs,
  python,
  python-env,
  app,
}:
let
  inherit (pkgs) lib;

  check =
    name: tools: script:
    pkgs.runCommand "check-${name}" { nativeBuildInputs = tools; } ''
      cp -r ${self} source
      chmod -R u+w source
      cd source
      export HOME=$TMPDIR PYTHONPATH=$PWD:${app}
      ${script}
      touch $out
    '';

  # What the lock lacks because no worker needs it, of nixpkgs' own choosing.
  testing = python.withPackages (packages: [
    packages.pytest
    packages.hypothesis
  ]);
  typing = pkgs.python3.withPackages (packages: [
    packages.mypy
    packages.pydantic # its plugin for mypy
    packages.boto3-stubs
    packages.mypy-boto3-s3
    packages.types-regex
    packages.types-tqdm
  ]);
  pytest =
    arguments:
    "PYTHONPATH=$PYTHONPATH:${testing}/${python.sitePackages} ${python-env}/bin/python -m pytest -p no:cacheprovider ${arguments}";
in
{
  # `make lint` asks the pinned ruff about the format, which changes with ruff's version.
  lint = check "lint" [ pkgs.ruff ] ''
    ruff check --no-cache .
  '';

  types = check "types" [ typing ] ''
    PYTHONPATH=$PWD:${typing}/${pkgs.python3.sitePackages} \
      mypy --python-executable ${python-env}/bin/python --cache-dir $TMPDIR/mypy
  '';

  lock = check "lock" [ pkgs.uv ] (pytest "tests/unit/volume/test_pins.py");

  # Without those that hear espeak-ng speak or have a certificate authority of their own.
  unit-tests = check "unit-tests" [ pkgs.uv ] (
    pytest (
      "tests/unit"
      + lib.concatMapStrings (name: " --ignore=tests/unit/worker/${name}.py") [
        "audio/test_files"
        "audio/test_waveform"
        "net/test_download"
      ]
    )
  );

  # flash-attn loads beside a torch of the same C++ ABI alone.
  environment = check "environment" [ ] ''
    PYTHONPATH=. ${python-env}/bin/python ${./check_environment.py}
  '';

  # The embedded model, heard by nobody: the command line, the installer, every stage.
  speech = check "speech" [ pkgs.uv ] ''
    export RUNPOD_VOLUME=$TMPDIR/volume SPARK_MODEL=demo
    ${python-env}/bin/python -m volume install --model demo
    ${python-env}/bin/python -m worker.speak "They bought a new car." --out $TMPDIR/speech.wav \
      --voice-from volume/demo/voices/demo.wav
  '';
}
