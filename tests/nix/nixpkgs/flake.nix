# Stands in for nixpkgs where neither it nor a binary cache can be had: the attributes that our
# flake uses and no others, made of this machine's own tools. tests/nix/host.py copies this folder
# and puts host.json beside it. What differs from nixpkgs is listed in docs/NIX.md.
{
  outputs = _: {
    legacyPackages.x86_64-linux = import ./packages.nix {
      lib = import ./lib.nix;
      host = builtins.fromJSON (builtins.readFile ./host.json);
    };
  };
}
