#!/bin/sh
# The guest's first process: this machine's root, read-only, under a disk that keeps what is written,
# or, where there is no disk, under memory. Then the guest's own first process, named in /first.
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read -r module; do insmod "$module" || echo "guest: no $module"; done </modules
mkdir -p /disk /lower /root
if [ -b /dev/vda ]; then
  mount -t ext4 /dev/vda /disk || exec poweroff -f
else
  mount -t tmpfs -o size=75% disk /disk || exec poweroff -f
fi
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose root /lower || exec poweroff -f
mkdir -p /disk/upper /disk/work /disk/docker /disk/containerd
mount -t overlay -o lowerdir=/lower,upperdir=/disk/upper,workdir=/disk/work,xino=off root /root || exec poweroff -f
if [ ! -e /disk/prepared ]; then
  # Nothing that the machine itself starts or keeps: only what is told below.
  rm -rf /root/usr/local/lib/overlay-ts /root/usr/local/bin/overlay-ts /root/var/lib/overlay-ts /root/var/cache/overlay-ts
  rm -rf /root/etc/systemd/system /root/etc/docker /root/usr/lib/modules
  mkdir -p /root/etc/systemd/system /root/usr/lib/modules /root/var/lib/docker /root/var/lib/containerd
  cp -a /files/. /root/
  touch /disk/prepared
fi
mount --bind "/root$(cat /modules-directory)" /root/usr/lib/modules
# An overlay is no ground for another: the engine's layers lie on the disk itself.
mount --bind /disk/docker /root/var/lib/docker
mount --bind /disk/containerd /root/var/lib/containerd
mount --move /dev /root/dev
umount /sys /proc
exec switch_root /root $(cat /first)
