# The flake wires, nix/ builds. docs/NIX.md says how it is used and how each pin is raised.
{
  description = "Spark-TTS as a RunPod serverless worker";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-25.11";
    # Upstream, as it is: no flake, no package, modules for PYTHONPATH.
    spark-tts.url = "github:SparkAudio/Spark-TTS";
    spark-tts.flake = false;
  };

  outputs =
    {
      self,
      nixpkgs,
      spark-tts,
    }:
    let
      system = "x86_64-linux"; # the one for which the lock has wheels
      pkgs = nixpkgs.legacyPackages.${system};
      inherit (pkgs) lib;
      inherit (lib.importTOML ./pyproject.toml) project;

      # The lock that the volume's installer reads too.
      lock = lib.importJSON ./volume/pins/environment.json;
      python =
        if pkgs.python311.pythonVersion == lock.python then
          pkgs.python311
        else
          throw "volume/pins/environment.json is for Python ${lock.python}, nixpkgs' python311 is ${pkgs.python311.pythonVersion}";

      # What wheels for manylinux expect of the system.
      libraries = lib.makeLibraryPath [
        pkgs.stdenv.cc.cc.lib
        pkgs.zlib
      ];

      python-env = import ./nix/python-env.nix { inherit pkgs python lock libraries; };
      app = import ./nix/app.nix { inherit pkgs python spark-tts; };
      image-of = import ./nix/image.nix;
      parts = {
        inherit
          pkgs
          python
          app
          libraries
          project
          lock
          ;
      };
      image = image-of parts;
      image-full = image-of (
        parts // { environment = import ./nix/image-environment.nix { inherit pkgs python lock; }; }
      );
      bill-of =
        image:
        import ./nix/sbom.nix {
          inherit
            pkgs
            python
            image
            spark-tts
            project
            ;
        };

      # A folder of the user's own stands in for RunPod's volume.
      command = name: description: script: {
        type = "app";
        program = "${pkgs.writeShellScript name ''
          set -eu
          export RUNPOD_VOLUME="''${RUNPOD_VOLUME:-''${XDG_DATA_HOME:-$HOME/.local/share}/spark-tts}"
          export SPARK_MODEL="''${SPARK_MODEL:-Spark-TTS-0.5B}"
          export PYTHONPATH=${app}''${PYTHONPATH:+:$PYTHONPATH} PATH=${pkgs.uv}/bin:$PATH
          python=${python-env}/bin/python
          ${script}
        ''}";
        meta = { inherit description; };
      };
    in
    {
      packages.${system} = {
        inherit image image-full python-env;
        default = image;
        sbom = bill-of image;
        sbom-full = bill-of image-full;
      };

      apps.${system} = {
        default = command "speak" "Speak a text into a file, and play it" ''
          "$python" -m volume install --model "$SPARK_MODEL" >&2
          ${builtins.readFile ./nix/speak.sh}
        '';
        worker = command "worker" "The worker, with the arguments of RunPod's SDK" ''
          "$python" -m volume install --model "$SPARK_MODEL" >&2
          exec "$python" -m worker "$@"
        '';
        install = command "install" "Install models, or the environment, on a volume" ''
          exec "$python" -m volume install "$@"
        '';
      };

      # `make install` in it gives the development environment.
      devShells.${system}.default = pkgs.mkShell {
        packages = [
          python
          pkgs.uv
          pkgs.skopeo
          pkgs.zstd
        ];
        LD_LIBRARY_PATH = "${libraries}:/run/opengl-driver/lib";
      };

      formatter.${system} = pkgs.nixfmt-tree;

      checks.${system} = import ./nix/checks.nix { inherit self pkgs python python-env app; };
    };
}
