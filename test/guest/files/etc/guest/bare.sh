#!/bin/bash
# The first process of a guest without systemd: what programs expect to find, then the line to the test.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs run /run
mkdir -p /run/lock
ip link set lo up
exec /bin/bash /etc/guest/control.sh
