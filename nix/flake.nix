# image: {base: "nix:./nix#rootfs"}, after `nix flake lock ./nix` has pinned nixpkgs.
{
  description = "A NixOS system as the image of a nixbox box";
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-25.05";
  outputs = { self, nixpkgs }: {
    nixosModules.default = ./module.nix;
    packages.x86_64-linux.rootfs = (nixpkgs.lib.nixosSystem {
      system = "x86_64-linux";
      modules = [ ./module.nix ./example.nix ];
    }).config.system.build.rootfs;
  };
}
