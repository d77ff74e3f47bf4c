# An example of a NixOS configuration for a box; module.nix makes the image of it.
{ pkgs, ... }:
{
  environment.systemPackages = [ pkgs.curl pkgs.gitMinimal pkgs.nodejs pkgs.ripgrep ];
  system.stateVersion = "25.05";
}
