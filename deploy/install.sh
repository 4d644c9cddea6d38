#!/bin/sh
# Installs overlay-ts on this host: program, command, services. Run again to upgrade: traffic goes on.
#   deploy/install.sh [--controller]     --controller: this is the host where `overlay-ts init` will run
set -eu
cd "$(dirname "$0")/.."
# What is installed can be read by all and changed by root, whatever the caller's umask.
umask 022
say() { echo "overlay-ts: $*" >&2; }
[ "$(id -u)" = 0 ] || { say "run as root"; exit 1; }
case ${1-} in
  "" | --controller) ;;
  *) say "usage: deploy/install.sh [--controller]"; exit 2 ;;
esac
command -v apt-get >/dev/null || { say "this installer is for Debian and Ubuntu"; exit 1; }
if [ -e /usr/lib/overlay-ts ]; then
  say "it is installed here by its package: install a newer one, or \`apt remove overlay-ts\` first"
  exit 1
fi
deploy/bootstrap install

to=/usr/local/lib/overlay-ts
units=/etc/systemd/system
say "installing to $to"
mkdir -p $to /usr/local/bin
rm -rf $to.new $to.old
deploy/copy-program $to.new
# A directory cannot be exchanged for another in one step: who starts in between is started again.
[ ! -e $to ] || mv $to $to.old
mv $to.new $to
rm -rf $to.old
ln -sf $to/deploy/overlay-ts /usr/local/bin/overlay-ts
overlay-ts prepare

if [ ! -d /run/systemd/system ]; then
  say "no systemd here: start \`overlay-ts agent\` (and \`overlay-ts controller\`) by your own means"
  exit
fi
[ -e /etc/default/overlay-ts ] || install -m 644 deploy/package/debian/default /etc/default/overlay-ts
services=overlay-ts-agent
install -m 644 deploy/systemd/overlay-ts-plugin.socket deploy/systemd/overlay-ts-agent.service \
  deploy/systemd/overlay-ts-wireguard@.service \
  deploy/systemd/overlay-ts-metrics.timer deploy/systemd/overlay-ts-metrics.service $units/
if [ "${1-}" = --controller ] || [ -e $units/overlay-ts-controller.service ]; then
  install -m 644 deploy/systemd/overlay-ts-controller.service $units/
  services="overlay-ts-controller $services"
fi
systemctl daemon-reload
# An agent that made the plugin's socket itself lets go of it first.
systemctl is-active -q overlay-ts-plugin.socket || systemctl stop overlay-ts-agent
systemctl enable --now overlay-ts-plugin.socket
# shellcheck disable=SC2086
systemctl enable $services
# shellcheck disable=SC2086
systemctl restart $services
if [ -e /var/lib/overlay-ts/agent/membership.json ]; then
  say "the agent runs; see \`overlay-ts status\`"
else
  say "the agent runs; next: \`overlay-ts init\` on the first host, \`overlay-ts join\` on the others"
fi
