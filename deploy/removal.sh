# How overlay-ts goes off a host, for who takes it off: deploy/uninstall.sh, and the package's prerm. Of them it has
#   force      not empty: also while containers use its networks
#   by_force   what the user does for that
#   units      where the units are
# shellcheck shell=sh
PATH="$PATH:/usr/local/bin:/usr/sbin:/sbin"
data=/var/lib/overlay-ts
netns=/run/overlay-ts/netns
say() { echo "overlay-ts: $*" >&2; }

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

# Ends the script where containers need what is to go; else `users` is who is cut off.
refuse_while_used() {
  users=$(used) || {
    users=
    say "the Docker engine does not answer: containers may use the cluster's networks"
    if [ -z "$force" ]; then
      say "start it (\`systemctl start docker\`), or $by_force to cut off those that do"
      exit 1
    fi
  }
  [ -z "$force" ] || return 0
  if [ -n "$users" ]; then
    say "these containers use its networks (network, container):"
    printf '%s\n' "$users" | sed 's/^/    /' >&2
    say "remove them first, or $by_force to cut them off"
    exit 1
  fi
  # Without an engine to ask: ports in the kernel are containers' too.
  for namespace in "$netns"/*; do
    # A file that is none of nsfs holds no namespace.
    [ "$(stat -f -c %t "$namespace" 2>/dev/null)" = 6e736673 ] || continue
    links=$(nsenter --net="$namespace" ip -o link show type veth) || {
      say "whether containers are on network ${namespace##*/} cannot be read"
      say "run this again, or $by_force to cut off those that are"
      exit 1
    }
    case $links in
      *' ovp'*)
        say "containers are on network ${namespace##*/}; stop them first, or $by_force to cut them off"
        exit 1
        ;;
    esac
  done
}

cut_off_users() {
  printf '%s\n' "$users" | while read -r network container; do
    [ -z "$network" ] || engine network disconnect --force "$network" "$container" || true
  done
}

# The agent itself takes its networks off the engine, which asks it about each.
withdraw_host() {
  if [ -e $data/agent/membership.json ] && [ -e "$units/overlay-ts-agent.service" ]; then
    systemctl start overlay-ts-agent 2>/dev/null || true
    # Who uses them was asked above; Docker and the kernel know, the agent may still hold what just went.
    timeout 180 overlay-ts withdraw --force >&2 || say "the agent cannot do it: this script does"
  fi
}

# What is left when no agent did it. Without its socket the engine waits for us a while, and goes on.
remove_traces() {
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
  nft delete table inet overlay_ts_egress 2>/dev/null || true
  for program in iptables ip6tables; do
    $program -w 5 -D DOCKER-USER -i ovt+ -j ACCEPT 2>/dev/null || true
    $program -w 5 -D DOCKER-USER -o ovt+ -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT 2>/dev/null || true
  done
  # In containers that run on; without the agent these rules lead nowhere.
  for namespace in /run/docker/netns/*; do
    [ -e "$namespace" ] || continue
    nsenter --net="$namespace" nft delete table ip overlay_ts_dns 2>/dev/null || true
    nsenter --net="$namespace" nft delete table inet overlay_ts_vip 2>/dev/null || true
  done
  rm -rf /var/cache/overlay-ts /run/overlay-ts
  rm -f /run/docker/plugins/overlay-ts.sock
}
