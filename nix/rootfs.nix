# The same without flakes: image: {base: "nix:./nix/rootfs.nix"}, with the nixpkgs of NIX_PATH.
{ nixpkgs ? <nixpkgs> }:
{
  rootfs = (import "${nixpkgs}/nixos/lib/eval-config.nix" {
    system = "x86_64-linux";
    modules = [ ./module.nix ./example.nix ];
  }).config.system.build.rootfs;
}
