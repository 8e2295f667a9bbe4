#!/bin/busybox sh
# The first process of the virtual machine: runs every spec there is, says how each ended, and
# switches the machine off. SPEC_SECONDS comes from the kernel's command line.
/bin/busybox --install -s /bin 2>/dev/null
export PATH=/bin HOME=/tmp RUST_BACKTRACE=1
export DESTON_REQUIRE_KERNEL=1 DESTON_SLOW_MACHINE=1 DESTON_TUNNEL_DEVICES=1

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mount -t bpf bpf /sys/fs/bpf || echo "vm: no bpffs"

release=$(uname -r)
echo "vm: kernel $release"
while read -r module; do
    insmod "/modules/$release/$module.ko" && echo "vm: module $module"
done <"/modules/$release/order"
ip link set dev lo up

cd /tmp || exit
for spec in /specs/*; do
    echo "vm: begin ${spec##*/}"
    timeout -s KILL "$SPEC_SECONDS" "$spec" --test-threads=1 --show-output
    echo "vm: end ${spec##*/} $?"
done
echo "vm: done"
poweroff -f
