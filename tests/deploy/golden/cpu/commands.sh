#!/bin/sh
set -eu
make engine \
  CONFIG=configs/small.yaml
make check \
  CONFIG=configs/small.yaml
make up \
  CONFIG=configs/small.yaml
exec prometheus \
  --config.file=/srv/conch/deploy/rendered/small/prometheus/prometheus.yml \
  --storage.tsdb.path=/srv/conch/deploy/rendered/small/state/prometheus \
  --web.listen-address=127.0.0.1:9090
