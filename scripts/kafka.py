#!/usr/bin/env python3
"""Fetches the jars of the Kafka broker that the tests start.

In:    java and Maven, whose settings and mirrors are used as they are, and Python's standard library.
Out:   the broker and all that it needs as a folder of jars; `--print libs` writes its name to standard output.
Keeps: ${XDG_CACHE_HOME:-~/.cache}/embedmill/kafka-4.3.1/libs. A second run finds it there and needs no Maven.
Fails: with everything that is missing at once, each with the command that installs it, exit code 2; else 1.

Maven copies into a temporary folder that is renamed when it is whole, so an interrupted run leaves nothing that a
later one could take for complete.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import List, Sequence, Tuple

sys.dont_write_bytecode = True
import setup  # noqa: E402

KAFKA_VERSION = "4.3.1"
BROKER_JAR = f"kafka_2.13-{KAFKA_VERSION}.jar"
JAVA_VERSION_MIN = 17

# The plugin's version is fixed because the one that a Maven brings along differs from Maven to Maven. The broker logs
# through slf4j, and slf4j-simple is the smallest way to see that log.
POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>embedmill</groupId><artifactId>test-broker</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA_VERSION}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
  <build><plugins><plugin>
    <groupId>org.apache.maven.plugins</groupId><artifactId>maven-dependency-plugin</artifactId><version>3.8.1</version>
  </plugin></plugins></build>
</project>
"""


class KafkaError(Exception):
    """Something that the user must see and can act on."""


class MissingTools(KafkaError):
    pass


def kafka_folder() -> Path:
    return setup.cache_folder() / f"kafka-{KAFKA_VERSION}"


def say(message: str) -> None:
    print(f"kafka: {message}", file=sys.stderr, flush=True)


def check_java(missing: List[Tuple[str, str]]) -> None:
    # JAVA_HOME goes before PATH, as it does for Maven and for the tests.
    home = os.environ.get("JAVA_HOME")
    java = os.path.join(home, "bin", "java") if home else "java"
    try:
        done = subprocess.run([java, "-version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        version = done.stderr.strip() or "no version"
    except OSError as error:
        version = "" if not home else f"JAVA_HOME is set, but {java}: {error.strerror}"
    match = re.search(r'version "(?:1\.)?(\d+)', version)
    if not match or int(match[1]) < JAVA_VERSION_MIN:
        # A distribution whose default is older has 17 beside it. Homebrew puts no java on PATH, so its command says where it is.
        apt = "openjdk-17-jre-headless" if match else "default-jre-headless"
        brew = 'openjdk@21 && export JAVA_HOME="$(brew --prefix openjdk@21)"'
        this = f" (this is {match[1]})" if match else f" ({version.splitlines()[0]})" if version else ""
        command = "unset JAVA_HOME" if home else setup.install_command(apt, "java-21-openjdk-headless", brew)
        missing.append((f"java {JAVA_VERSION_MIN} or newer{this}", command))


def check_tools(maven: bool) -> None:
    missing: List[Tuple[str, str]] = []
    check_java(missing)
    if maven and not shutil.which("mvn"):
        missing.append(("mvn (Maven)", setup.install_command("maven", "maven", "maven")))
    if missing:
        lines = [f"{len(missing)} thing{'s are' if len(missing) > 1 else ' is'} missing:"]
        lines += [f"  - {what}\n      {command}" for what, command in missing]
        raise MissingTools("\n".join(lines))


def copy_dependencies(work: Path, folder: Path) -> None:
    say(f"fetching the Kafka {KAFKA_VERSION} broker with Maven (about 45 MB)")
    (work / "pom.xml").write_text(POM, encoding="utf-8")
    command = ["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={folder}"]
    started = time.monotonic()
    # Maven reports its errors on standard output, among escape codes that it prints in any case.
    done = subprocess.run(command, cwd=work, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not (folder / BROKER_JAR).is_file():
        print(done.stdout + done.stderr, end="", file=sys.stderr)
        raise KafkaError(
            "Maven could not fetch the broker; its reason is above.\n"
            "  - behind a proxy, or with a mirror:  name it in ~/.m2/settings.xml\n"
            "  - with jars of your own:  export EMBEDMILL_KAFKA_LIBS=/path/to/kafka/libs"
        )
    size_mb = sum(path.stat().st_size for path in folder.iterdir()) / 1_000_000
    say(f"fetched the broker: {size_mb:,.0f} MB in {time.monotonic() - started:.0f} s")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/kafka.py", description="Fetches the Kafka broker that the tests start.")
    parser.add_argument("--print", choices=("libs",), dest="place", help="print the folder of its jars, fetched if need be")
    options = parser.parse_args(arguments)
    libs = kafka_folder() / "libs"
    try:
        there = (libs / BROKER_JAR).is_file()
        check_tools(maven=not there)
        if not there:
            setup.publish(libs, copy_dependencies, lambda: (libs / BROKER_JAR).is_file())
    except KafkaError as error:
        say(f"error: {error}")
        return 2 if isinstance(error, MissingTools) else 1
    except OSError as error:
        say(f"error: {error}. XDG_CACHE_HOME moves the cache folder.")
        return 1
    except KeyboardInterrupt:
        say("interrupted; nothing half-made was left")
        return 130
    if options.place:
        print(libs)
    else:
        say(f"Kafka {KAFKA_VERSION}: {setup.short(libs)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
