# Runs inside the node's tree: starts containerd, imports /tmp/images.tar, pins
# the images, drops the layers' compressed copies and stops containerd.
# Arguments: image references, "--", layer digests.
set -eu
cat > /tmp/import.toml <<END
version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.monitor.v1.cgroups"]
END
containerd --config /tmp/import.toml > /tmp/containerd.log 2>&1 &
server=$!
tries=0
until ctr version > /dev/null 2>&1; do
  tries=$((tries + 1))
  if [ "$tries" -gt 200 ]; then
    echo "containerd does not answer:" >&2
    tail -n 5 /tmp/containerd.log >&2
    exit 1
  fi
  sleep 0.1
done
ctr --namespace k8s.io images import /tmp/images.tar > /tmp/import.log
while [ "$1" != -- ]; do
  ctr --namespace k8s.io images label "$1" io.cri-containerd.pinned=pinned > /dev/null
  shift
done
shift
ctr --namespace k8s.io content rm "$@" > /dev/null
kill -TERM "$server"
wait "$server" || true
