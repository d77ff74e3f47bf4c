# A NixOS module that makes a system an image for nixbox: `system.build.rootfs`, a folder with the system's programs and
# settings where every program looks for them. Kernel, initramfs and the first process are nixbox's, so nothing here boots.
# There is no sudo: a store keeps no setuid bits. `nixbox run -u root` takes its place.
{ config, lib, pkgs, ... }:
let
  path = config.system.path; # all of environment.systemPackages
  etc = config.system.build.etc;
in
{
  boot.isContainer = true; # no boot loader, no kernel of its own
  documentation.enable = lib.mkDefault false;
  environment.systemPackages = [ pkgs.bashInteractive pkgs.coreutils pkgs.cacert ];

  system.build.rootfs = pkgs.runCommand "nixbox-rootfs" { } ''
    mkdir -p $out/usr $out/etc $out/root $out/var
    ln -s ${path}/bin $out/bin
    ln -s ${path}/bin $out/usr/bin
    ln -s ${path}/share $out/usr/share
    cp -RP ${etc}/etc/. $out/etc/
    chmod -R u+w $out/etc
    rm -f $out/etc/resolv.conf $out/etc/hostname $out/etc/hosts
    [ -e $out/etc/passwd ] || echo "root:x:0:0:root:/root:/bin/sh" > $out/etc/passwd
    [ -e $out/etc/group ] || echo "root:x:0:" > $out/etc/group
  '';
}
