# The functions of nixpkgs' lib that our flake calls.
let
  inherit (builtins)
    concatStringsSep
    filter
    isString
    replaceStrings
    split
    stringLength
    substring
    ;
in
rec {
  inherit (builtins) elemAt;
  importJSON = file: builtins.fromJSON (builtins.readFile file);
  importTOML = file: builtins.fromTOML (builtins.readFile file);
  splitString = separator: text: filter isString (split separator text);
  removeSuffix =
    suffix: text:
    let
      kept = stringLength text - stringLength suffix;
    in
    if kept >= 0 && substring kept (-1) text == suffix then substring 0 kept text else text;
  escapeShellArg = text: "'${replaceStrings [ "'" ] [ "'\\''" ] (toString text)}'";
  makeLibraryPath = packages: concatStringsSep ":" (map (package: "${package}/lib") packages);
  concatMapStrings = f: list: concatStringsSep "" (map f list);
}
