# Wheels of the lock, installed: one or more to a derivation.
{
  pkgs,
  python,
}:
let
  inherit (pkgs) lib;
  quote = lib.escapeShellArg;

  # nixpkgs knows where the index has its files, so no address of it is written here. The lock has
  # each wheel's path below that place.
  index =
    wheel:
    let
      asked = pkgs.fetchPypi {
        format = "wheel";
        pname = wheel.name;
        inherit (wheel) version sha256;
      };
    in
    lib.head (lib.splitString "packages/" asked.url);

  fetch =
    wheel:
    pkgs.fetchurl {
      name = wheel.file; # a URL has %2B where the name has +
      url = wheel.url or (index wheel + wheel.path);
      inherit (wheel) sha256;
    };

  link = wheel: "ln -s ${fetch wheel} ${quote "wheels/${wheel.file}"}\n";
  requirement = wheel: " ${quote "${wheel.name}==${wheel.version}"}";
in
# By uv, as on the volume, without the notes that uv takes on the time of the install.
name: wheels:
pkgs.runCommand name
  {
    nativeBuildInputs = [ pkgs.uv ];
    # The version in flash-attn's file name has more parts than the one in its metadata.
    UV_SKIP_WHEEL_FILENAME_CHECK = 1;
    # A set goes into a .pyc file in the order of its hashes.
    PYTHONHASHSEED = 0;
  }
  ''
    site=$out/${python.sitePackages}
    mkdir wheels
    ${lib.concatMapStrings link wheels}
    uv pip install --quiet --no-config --no-cache --no-index --find-links wheels --no-deps --no-build \
      --python ${python.interpreter} --target $site${lib.concatMapStrings requirement wheels}
    rm -f $site/.lock $site/*.dist-info/uv_cache.json
    sed -i '/uv_cache\.json/d' $site/*.dist-info/RECORD
    # Some wheels hold templates that end in .py and are no Python: they stay as they are.
    ${python.interpreter} -m compileall -qq --invalidation-mode unchecked-hash $site || true
  ''
