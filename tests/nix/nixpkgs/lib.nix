# The functions of nixpkgs' lib that our flake calls.
let
  inherit (builtins)
    concatStringsSep
    filter
    isString
    replaceStrings
    split
    ;
in
rec {
  inherit (builtins) head;
  importJSON = file: builtins.fromJSON (builtins.readFile file);
  importTOML = file: builtins.fromTOML (builtins.readFile file);
  splitString = separator: text: filter isString (split separator text);
  escapeShellArg = text: "'${replaceStrings [ "'" ] [ "'\\''" ] (toString text)}'";
  makeLibraryPath = packages: concatStringsSep ":" (map (package: "${package}/lib") packages);
  concatMapStrings = f: list: concatStringsSep "" (map f list);
}
