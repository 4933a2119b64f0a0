# The wheels of the lock for the layers of an image: a large one is a store path, and so a layer, of
# its own, that a new version of the worker does not change. The small ones are one path together:
# an image has at most 100 layers, and what is beyond them would share one.
{
  pkgs,
  python,
  lock,
}:
let
  install = import ./wheels.nix { inherit pkgs python; };
  large = wheel: wheel.unpacked >= 20 * 1000 * 1000;
in
pkgs.symlinkJoin {
  name = "spark-tts-environment";
  paths = map (wheel: install "wheel-${wheel.name}" [ wheel ]) (builtins.filter large lock.wheels) ++ [
    (install "wheels-small" (builtins.filter (wheel: !large wheel) lock.wheels))
  ];
}
