{ lib, host }:
let
  # No sandbox: builders see the machine's own tools. What they copy from it is hashed by
  # tests/nix/host.py, and that hash goes into the derivation.
  build =
    name: attributes: script:
    derivation (
      {
        inherit name;
        system = "x86_64-linux";
        builder = host.bash;
        # The builder must not close its output before it ends, hence the last command.
        args = [
          "-euc"
          ''
            export PATH=${builtins.concatStringsSep "" (map (tool: "${tool}/bin:") (attributes.nativeBuildInputs or [ ]))}$path
            ${script}
            :
          ''
        ];
        path = host.path;
      }
      // removeAttrs attributes [
        "nativeBuildInputs"
        "passthru"
      ]
    )
    // attributes.passthru or { };

  runCommand = build;

  absent =
    name:
    build name { } ''
      echo "${name}: the stand-in for nixpkgs has none" >&2
      exit 1
    '';

  # A library or program of this machine, made to use the C library of the store.
  adopt = ''
    adopt() {
      ${host.patchelf} --set-rpath "$1" "$2"
      if ${host.patchelf} --print-interpreter "$2" >/dev/null 2>&1; then
        ${host.patchelf} --set-interpreter ${glibc}/lib/ld-linux-x86-64.so.2 "$2"
      fi
    }
  '';

  libraries =
    name: files: attributes: more:
    build name (attributes // { fingerprint = host.fingerprint; }) ''
      mkdir -p $out/lib
      cp -L ${toString files} $out/lib/
      chmod -R u+w $out
      ${more}
    '';

  glibc = libraries "glibc-${host.glibc.version}" host.glibc.files { } "";

  # Debian's loader searches /lib and not the store, so the C library goes with the C++ runtime.
  gcc-lib = libraries "gcc-lib" host.gcc { } ''
    ${adopt}
    for file in $out/lib/*; do adopt ${glibc}/lib $file; done
    ln -s ${glibc}/lib/* $out/lib/
  '';

  zlib = libraries "zlib" host.zlib { } ''
    ${adopt}
    for file in $out/lib/*; do adopt ${glibc}/lib $file; done
  '';

  uv = build "uv-${host.uv.version}" { fingerprint = host.fingerprint; } ''
    ${adopt}
    mkdir -p $out/bin
    cp ${host.uv.program} $out/bin/uv
    chmod u+w $out/bin/uv
    adopt ${gcc-lib}/lib $out/bin/uv
  '';

  python311 = build "python3-${host.python.version}" {
    fingerprint = host.fingerprint;
    PYTHONHASHSEED = 0;
    passthru = {
      interpreter = "${python311}/bin/python3.11";
      pythonVersion = "3.11";
      sitePackages = "lib/python3.11/site-packages";
      withPackages = _: absent "python3-with-packages";
    };
  } ''
    ${adopt}
    mkdir -p $out/bin $out/lib
    cp -L ${host.python.program} $out/bin/python3.11
    ln -s python3.11 $out/bin/python3
    cp -rL ${host.python.library} $out/lib/python3.11
    chmod -R u+w $out
    cd $out/lib/python3.11
    rm -rf site-packages dist-packages test idlelib tkinter lib2to3 ensurepip turtledemo pydoc_data
    rm -rf config-* lib-dynload/{_tkinter,nis,_test*,_ctypes_test,_xxtestfuzz,xx*}.*
    find . -name __pycache__ -prune -exec rm -r {} +
    cp -L ${toString host.python.libraries} $out/lib/
    chmod -R u+w $out
    for file in $out/lib/*.so* lib-dynload/*.so $out/bin/python3.11; do
      adopt $out/lib:${glibc}/lib $file
    done
    $out/bin/python3.11 -m compileall -qq --invalidation-mode unchecked-hash .
  '';

  symlinkJoin =
    {
      name,
      paths,
      postBuild ? "",
    }:
    build name { } ''
      mkdir $out
      for path in ${toString paths}; do cp -rsf --no-preserve=mode $path/. $out/; done
      cd $out
      ${postBuild}
    '';
in
{
  inherit
    glibc
    lib
    python311
    runCommand
    symlinkJoin
    uv
    zlib
    ;
  python3 = python311;
  stdenv.cc.cc.lib = gcc-lib;
  runtimeShell = host.bash;
  nixfmt-tree = absent "nixfmt-tree";
  ruff = absent "ruff";
  skopeo = absent "skopeo";
  zstd = absent "zstd";

  cacert = build "nss-cacert" { fingerprint = host.fingerprint; } ''
    mkdir -p $out/etc/ssl/certs
    cp -L ${host.certificates} $out/etc/ssl/certs/ca-bundle.crt
  '';

  fakeNss = build "fake-nss" { } ''
    mkdir -p $out/etc $out/var/empty
    echo 'root:x:0:0:root user:/var/empty:/bin/sh
    nobody:x:65534:65534:nobody:/var/empty:/bin/sh' > $out/etc/passwd
    echo 'root:x:0:
    nobody:x:65534:' > $out/etc/group
    echo 'hosts: files dns' > $out/etc/nsswitch.conf
  '';

  mkShell = attributes: build "shell" (removeAttrs attributes [ "packages" ]) "mkdir $out";

  writeShellScript =
    name: text:
    build name
      {
        text = "#!${host.bash}\n${text}";
        passAsFile = [ "text" ];
      }
      ''
        cp $textPath $out
        chmod +x $out
      '';

  # The wheels of tests lie in a folder; the hash is checked by Nix itself, as for nixpkgs' own.
  fetchurl =
    {
      name,
      url,
      sha256,
    }:
    assert lib.splitString "://" url != [ url ];
    build name
      {
        outputHash = sha256;
        outputHashAlgo = "sha256";
        outputHashMode = "flat";
      }
      ''
        if [ ! -e "${host.wheelhouse}/${name}" ]; then
          echo "${name}: not in the wheelhouse" >&2
          exit 1
        fi
        cp "${host.wheelhouse}/${name}" $out
      '';
  fetchPypi =
    {
      format,
      pname,
      version,
      sha256,
    }:
    {
      url = "https://index.invalid/packages/${format}/${pname}-${version}-${sha256}.whl";
    };

  dockerTools.streamLayeredImage =
    {
      name,
      tag,
      contents,
      config,
      extraCommands,
    }:
    let
      configuration = build "configuration.json" {
        text = builtins.toJSON config;
        passAsFile = [ "text" ];
      } "cp $textPath $out";
      root = build "customisation-layer" { } ''
        mkdir root $out
        for path in ${toString contents}; do cp -rsf --no-preserve=mode $path/. root/; done
        cd root
        ${extraCommands}
        tar --sort=name --mtime=@1 --owner=0 --group=0 --numeric-owner -cf $out/layer.tar .
      '';
      conf = build "conf.json" {
        exportReferencesGraph = [
          "configuration"
          configuration
          "root"
          root
        ];
        inherit configuration root;
        tag = "${name}:${tag}";
      } "${python311.interpreter} ${./layered_image.py} describe > $out";
    in
    build "stream-image" {
      passthru = {
        inherit conf;
        imageTag = tag;
      };
    } ''
      echo '#!${host.bash}
      exec ${python311.interpreter} ${./layered_image.py} stream ${conf}' > $out
      chmod +x $out
    '';
}
