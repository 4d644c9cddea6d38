#!/bin/sh
# Takes overlay-ts off this host: services, program, and all it made in kernel and engine.
#   deploy/uninstall.sh [--force] [--purge]
#     --force: also while containers use its networks; they are cut off
#     --purge: also /var/lib/overlay-ts: the host's key and membership, a controller's cluster
set -eu
force=
by_force="give --force"
units=/etc/systemd/system
. "$(dirname "$0")/removal.sh"
[ "$(id -u)" = 0 ] || { say "run as root"; exit 1; }
purge=
for option; do
  case $option in
    --force) force=yes ;;
    --purge) purge=yes ;;
    *) say "usage: deploy/uninstall.sh [--force] [--purge]"; exit 2 ;;
  esac
done
if [ -e /usr/lib/overlay-ts ]; then
  say "it is installed here by its package: \`apt remove overlay-ts\`, or \`apt purge overlay-ts\`"
  exit 1
fi

refuse_while_used
if [ -z "$force" ] && [ -n "$purge" ] && [ -e $data/controller ]; then
  say "this host is the controller: --purge ends its cluster for all hosts"
  say "give --force too if that is meant"
  exit 1
fi
cut_off_users
withdraw_host

if [ -d /run/systemd/system ]; then
  for unit in overlay-ts-metrics.timer overlay-ts-plugin.socket overlay-ts-agent.service overlay-ts-controller.service; do
    [ ! -e $units/$unit ] || systemctl disable --now $unit
    rm -f $units/$unit
  done
  systemctl stop 'overlay-ts-wireguard@*.service'
  rm -f "$units/overlay-ts-wireguard@.service" $units/overlay-ts-metrics.service
  systemctl daemon-reload
  systemctl reset-failed 'overlay-ts-*' 2>/dev/null || true
fi
remove_traces

rm -rf /usr/local/lib/overlay-ts /usr/local/lib/overlay-ts.new /usr/local/lib/overlay-ts.old
rm -f /usr/local/bin/overlay-ts
[ -z "$purge" ] || rm -rf $data /etc/default/overlay-ts
if [ -e $data ]; then
  say "gone; the host's key and membership are kept in $data (--purge removes them)"
else
  say "gone"
fi
