#!/usr/bin/env python3
"""Fetches the jars of the Kafka broker that the tests start.

In:    java and Maven, whose settings and mirrors are used as they are, and Python's standard library.
Out:   a folder with the jars of the broker and of everything it needs; `--print libs` writes the folder's path to standard
       output.
Keeps: ${XDG_CACHE_HOME:-~/.cache}/embedmill/kafka-4.3.1/libs. A second run finds it there and needs no Maven.
Fails: with exit code 2 if tools are missing, with all of them at once and the command that installs each; else with 1.

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
from typing import List, Optional, Sequence

sys.dont_write_bytecode = True
from setup.fetch import publish  # noqa: E402
from setup.places import cache_folder, short  # noqa: E402
from setup.prerequisites import Missing, install_command, missing_message  # noqa: E402
from setup.report import MB, os_error_message  # noqa: E402

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
    """A problem that the user can solve, in the form `where: what is wrong; expected what (what to do)`."""


class MissingTools(KafkaError):
    """Tools that must be installed first."""


def kafka_folder() -> Path:
    return cache_folder() / f"kafka-{KAFKA_VERSION}"


def say(message: str) -> None:
    print(f"kafka: {message}", file=sys.stderr, flush=True)


def check_java() -> Optional[Missing]:
    # JAVA_HOME takes precedence over PATH, as it does for Maven and for the tests.
    home = os.environ.get("JAVA_HOME")
    java = os.path.join(home, "bin", "java") if home else "java"
    try:
        done = subprocess.run([java, "-version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        version = done.stderr.strip() or "no version"
    except OSError as error:
        version = f"JAVA_HOME is set, but {java}: {error.strerror}" if home else ""
    match = re.search(r'version "(?:1\.)?(\d+)', version)
    if match and int(match[1]) >= JAVA_VERSION_MIN:
        return None
    this = f" (this is {match[1]})" if match else f" ({version.splitlines()[0]})" if version else ""
    # A distribution whose default is older offers 17 too. Homebrew does not put java on PATH, so its command sets JAVA_HOME.
    apt = "openjdk-17-jre-headless" if match else "default-jre-headless"
    brew = 'openjdk@21 && export JAVA_HOME="$(brew --prefix openjdk@21)"'
    remedy = "unset JAVA_HOME" if home else install_command(apt, "java-21-openjdk-headless", brew)
    return Missing(f"java {JAVA_VERSION_MIN} or newer{this}", remedy)


def check_maven() -> Optional[Missing]:
    return None if shutil.which("mvn") else Missing("mvn (Maven)", install_command("maven", "maven", "maven"))


def check_tools(maven: bool) -> None:
    checked = [check_java(), check_maven() if maven else None]
    missing: List[Missing] = [tool for tool in checked if tool]
    if missing:
        raise MissingTools(missing_message(missing))


def copy_dependencies(work: Path, folder: Path) -> None:
    say(f"fetching the Kafka {KAFKA_VERSION} broker with Maven (about 45 MB)")
    (work / "pom.xml").write_text(POM, encoding="utf-8")
    command = ["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={folder}"]
    started = time.monotonic()
    # Maven writes its errors to standard output, with escape codes even where that is not a terminal.
    done = subprocess.run(command, cwd=work, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not (folder / BROKER_JAR).is_file():
        print(done.stdout + done.stderr, end="", file=sys.stderr)
        raise KafkaError(
            f"Maven: Kafka {KAFKA_VERSION} was not fetched, for the reason above; expected access to a repository that has it\n"
            "  - behind a proxy, or with a mirror:  name it in ~/.m2/settings.xml\n"
            "  - with jars of your own:  export EMBEDMILL_KAFKA_LIBS=/path/to/kafka/libs"
        )
    size_mb = sum(path.stat().st_size for path in folder.iterdir()) / MB
    say(f"fetched the broker: {size_mb:,.0f} MB in {time.monotonic() - started:.0f} s")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/kafka.py", description="Fetches the Kafka broker that the tests start.")
    parser.add_argument("--print", choices=("libs",), dest="place", help="print the folder of its jars, and fetch them if needed")
    options = parser.parse_args(arguments)
    libs = kafka_folder() / "libs"
    try:
        there = (libs / BROKER_JAR).is_file()
        check_tools(maven=not there)
        if not there:
            publish(libs, copy_dependencies, lambda: (libs / BROKER_JAR).is_file())
    except KafkaError as error:
        say(f"error: {error}")
        return 2 if isinstance(error, MissingTools) else 1
    except OSError as error:
        say(f"error: {os_error_message(error)}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; nothing incomplete was left behind")
        return 130
    if options.place:
        print(libs)
    else:
        say(f"Kafka {KAFKA_VERSION}: {short(libs)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
