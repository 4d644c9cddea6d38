#!/bin/sh
# Takes overlay-ts off this host: services, program, and all it made in kernel and engine.
#   deploy/uninstall.sh [--force] [--purge]
#     --force: also while containers use its networks; they are cut off
#     --purge: also /var/lib/overlay-ts: the host's key and membership, a controller's cluster
set -eu
say() { echo "overlay-ts: $*" >&2; }
[ "$(id -u)" = 0 ] || { say "run as root"; exit 1; }
force= purge=
for option; do
  case $option in
    --force) force=yes ;;
    --purge) purge=yes ;;
    *) say "usage: deploy/uninstall.sh [--force] [--purge]"; exit 2 ;;
  esac
done
PATH="$PATH:/usr/local/bin:/usr/sbin:/sbin"
units=/etc/systemd/system
data=/var/lib/overlay-ts
netns=/run/overlay-ts/netns

has_engine() { command -v docker >/dev/null || command -v dockerd >/dev/null || [ -e /run/docker.sock ]; }
engine() { timeout 120 docker "$@"; }
networks() { engine network ls --filter driver=overlay-ts --format '{{.Name}}'; }

# "network container" lines, stopped containers too: they could not start again. Fails when it cannot ask.
used() {
  has_engine || return 0
  all=$(networks) || return
  for network in $all; do
    engine ps -a --filter "network=$network" --format "$network {{.Names}}" || return
  done
}

users=$(used) || {
  users=
  say "the Docker engine does not answer: containers may use the cluster's networks"
  if [ -z "$force" ]; then
    say "start it (\`systemctl start docker\`), or give --force to cut off those that do"
    exit 1
  fi
}
if [ -z "$force" ]; then
  if [ -n "$users" ]; then
    say "these containers use its networks (network, container):"
    printf '%s\n' "$users" | sed 's/^/    /' >&2
    say "remove them first, or give --force to cut them off"
    exit 1
  fi
  # Without an engine to ask: ports in the kernel are containers' too.
  for namespace in "$netns"/*; do
    # A file that is none of nsfs holds no namespace.
    [ "$(stat -f -c %t "$namespace" 2>/dev/null)" = 6e736673 ] || continue
    links=$(nsenter --net="$namespace" ip -o link show type veth) || {
      say "whether containers are on network ${namespace##*/} cannot be read"
      say "run this again, or give --force to cut off those that are"
      exit 1
    }
    case $links in
      *' ovp'*)
        say "containers are on network ${namespace##*/}; stop them first, or give --force to cut them off"
        exit 1
        ;;
    esac
  done
  if [ -n "$purge" ] && [ -e $data/controller ]; then
    say "this host is the controller: --purge ends its cluster for all hosts"
    say "give --force too if that is meant"
    exit 1
  fi
fi
printf '%s\n' "$users" | while read -r network container; do
  [ -z "$network" ] || engine network disconnect --force "$network" "$container" || true
done

# The agent itself takes its networks off the engine, which asks it about each.
if [ -e $data/agent/membership.json ] && [ -e $units/overlay-ts-agent.service ]; then
  systemctl start overlay-ts-agent 2>/dev/null || true
  # Who uses them was asked above; Docker and the kernel know, the agent may still hold what just went.
  timeout 180 overlay-ts withdraw --force >&2 || say "the agent cannot do it: this script does"
fi

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

# What is left when no agent did it. Without its socket the engine waits for us a while, and goes on.
rm -f /run/docker/plugins/overlay-ts.sock
if has_engine; then
  left=$(networks) || {
    left=
    say "its networks stay on the Docker engine, which does not answer: when it runs, \`docker network rm\`"
    say "those of \`docker network ls --filter driver=overlay-ts\`"
  }
  for network in $left; do
    engine network rm "$network" >/dev/null || say "network $network stays in \`docker network ls\`: \`docker network rm $network\`"
  done
fi
# Devices end with their namespace.
for namespace in "$netns"/*; do
  [ -e "$namespace" ] || continue
  umount -l "$namespace" 2>/dev/null || true
  rm -f "$namespace"
done
for link in $(ip -o link show type veth | sed -n 's/^[0-9]*: \(ovc[^@:]*\).*/\1/p'); do
  ip link delete "$link" || true
done
nft delete table inet overlay_ts 2>/dev/null || true
nft delete table bridge overlay_ts_way_out 2>/dev/null || true
# In containers that run on; without the agent these rules lead nowhere.
for namespace in /run/docker/netns/*; do
  [ -e "$namespace" ] || continue
  nsenter --net="$namespace" nft delete table ip overlay_ts_dns 2>/dev/null || true
done

rm -rf /usr/local/lib/overlay-ts /usr/local/lib/overlay-ts.new /usr/local/lib/overlay-ts.old
rm -rf /usr/local/bin/overlay-ts /var/cache/overlay-ts /run/overlay-ts
rm -f /run/docker/plugins/overlay-ts.sock
[ -z "$purge" ] || rm -rf $data
if [ -e $data ]; then
  say "gone; the host's key and membership are kept in $data (--purge removes them)"
else
  say "gone"
fi
