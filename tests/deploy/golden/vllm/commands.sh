#!/bin/sh
set -eu
make engine \
  CONFIG=configs/large.yaml
make check \
  CONFIG=configs/large.yaml
make up \
  CONFIG=configs/large.yaml
dcgm-exporter \
  --address 127.0.0.1:9400 \
  &
exec prometheus \
  --config.file=/srv/conch/deploy/rendered/large/prometheus/prometheus.yml \
  --storage.tsdb.path=/srv/conch/deploy/rendered/large/state/prometheus \
  --web.listen-address=127.0.0.1:9090
