# Python with the wheels of the lock and nothing else: one wheel, one derivation.
{
  pkgs,
  python,
  lock,
  libraries,
}:
let
  install = import ./wheels.nix { inherit pkgs python; };
in
pkgs.symlinkJoin {
  name = "spark-tts-python-env";
  paths = map (wheel: install "wheel-${wheel.name}" [ wheel ]) lock.wheels;
  # A wrapper, and no patched libraries: torch finds the CUDA wheels beside itself.
  postBuild = ''
    mkdir -p $out/bin
    cat > $out/bin/python <<END
    #!${pkgs.runtimeShell}
    export PYTHONPATH=$out/${python.sitePackages}\''${PYTHONPATH:+:\$PYTHONPATH}
    export LD_LIBRARY_PATH=${libraries}:/run/opengl-driver/lib\''${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}
    exec ${python.interpreter} "\$@"
    END
    chmod +x $out/bin/python
  '';
}
