# The image: it installs the environment and the models on the volume, then becomes the worker. With
# an `environment` it brings that, and needs no volume.
{
  pkgs,
  python,
  app,
  libraries,
  project,
  lock,
  environment ? null,
}:
let
  # "2.6.0+cu126" -> "12.6": the driver that the locked torch needs, for the SDK's own check.
  torch = builtins.filter (wheel: wheel.name == "torch") lock.wheels;
  cuda = wheel: builtins.match ".*[+]cu([0-9]+)([0-9])" wheel.version;
  needsCuda = wheel: builtins.concatStringsSep "." (cuda wheel);
in
pkgs.dockerTools.streamLayeredImage {
  name = "gemeneye/${project.name}";
  tag = project.version + (if environment == null then "" else "-full");

  # The root folder; what Entrypoint and Env name comes with them.
  contents = [
    pkgs.cacert # for TLS to the index, the hub and the bucket
    pkgs.fakeNss # a name for the user, and names resolved by files, then DNS
  ];

  extraCommands = ''
    mkdir -m 1777 -p tmp var/tmp
    # Programs in wheels, such as triton's ptxas, name this loader.
    mkdir -p lib64
    ln -s ${pkgs.glibc}/lib/ld-linux-x86-64.so.2 lib64/
    # Where the NVIDIA container toolkit puts the driver: one or the other, by its version.
    mkdir -p usr/lib64 usr/lib/x86_64-linux-gnu usr/bin
  '';

  config = {
    Entrypoint = [
      python.interpreter
      "-m"
      "volume"
      "run"
    ];
    Env = [
      "PATH=${pkgs.uv}/bin:${python}/bin:/usr/bin" # /usr/bin: the toolkit's nvidia-smi
      "PYTHONPATH=${app}"
      "PYTHONSAFEPATH=1" # the working directory is no place for modules
      "PYTHONUNBUFFERED=1" # log lines as they are written
      # For the wheels; nixpkgs' glibc reads no ld.so.cache, so the driver's folders as well.
      "LD_LIBRARY_PATH=${libraries}:/usr/lib64:/usr/lib/x86_64-linux-gnu"
      "NVIDIA_VISIBLE_DEVICES=all"
      "NVIDIA_DRIVER_CAPABILITIES=compute,utility"
      "SSL_CERT_FILE=/etc/ssl/certs/ca-bundle.crt"
      "UV_PYTHON_DOWNLOADS=never"
      "RUNPOD_VOLUME=/runpod-volume" # not made here: a volume that is not mounted is noticed
      "HOME=/tmp" # writable under any user id
      # The SDK times a first product on the GPU, for which cuBLAS is read from the volume.
      "RUNPOD_GPU_BENCHMARK_TIMEOUT=20"
    ]
    ++ map (wheel: "RUNPOD_MIN_CUDA_VERSION=${needsCuda wheel}") torch
    ++ (
      if environment == null then
        [ ]
      else
        [ "SPARK_ENVIRONMENT=${environment}/${dirOf python.sitePackages}" ]
    );
    # No git revision among them: it would make another image of every commit.
    Labels = {
      "org.opencontainers.image.title" = project.name;
      "org.opencontainers.image.description" = project.description;
      "org.opencontainers.image.version" = project.version;
      "org.opencontainers.image.licenses" = project.license;
    };
  };
}
