"""The proxies under test, each as it would be run: how it is configured, started, and asked.

Each is given one core and no access log, keeps its connections to the upstream, and is otherwise left
at its defaults. nginx, haproxy and Envoy guard nothing; semel and idempotent-proxy do.
"""

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from measure import Redis
from processes import LOAD_CORE, PROXY_CORE, Field, Missing, Process, find, free_port, http_ok

# How long idempotent-proxy keeps an answer, which is also its time-out: longer than any scenario.
PEER_KEEPS_MS = 600_000
# Every path that a scenario sends to idempotent-proxy, which knows URLs by name only.
PEER_PATHS = {
    "/pay": "URL_PAY",
    "/pay?count": "URL_COUNTED",
    "/pay?delay_ms=5": "URL_QUICK",
    "/pay?delay_ms=50": "URL_USUAL",
    "/pay?delay_ms=2000&count": "URL_SLOW",
}


@dataclass
class Subject:
    """A proxy that runs: where it listens, and what its work is measured by."""

    name: str
    process: Process
    port: int
    redis: Redis = None
    paths: dict = field(default_factory=dict)
    folder: Path = None

    def path(self, path: str) -> str:
        """What a caller asks this proxy for to reach that path of the upstream."""
        return self.paths.get(path, path)

    @property
    def pids(self) -> list:
        """Whose CPU time and memory are this proxy's."""
        return [self.process.pid]


class Stage:
    """A field with an upstream, on which proxies are put."""

    def __init__(self, field: Field, semel: Path):
        self.field, self.semel_binary = field, semel
        self.upstream = self.start_upstream([])
        self.tls_upstream = None
        self.secret = field.folder / "secret"

    def start_upstream(self, options: list) -> int:
        """The fast upstream on the load's core; returns its port."""
        port = free_port()
        program = self.semel_binary.parent / "bench-upstream"
        if not program.exists():
            raise Missing(f"{program} is not there: `make bench` builds it beside semel")
        command = [program, "--listen", f"127.0.0.1:{port}", *options]
        self.field.start("upstream", command, LOAD_CORE).await_port(port)
        return port

    def start_tls_upstream(self) -> None:
        """An upstream with TLS, and a certificate that only this bench believes."""
        folder = self.field.subfolder("certificate")
        (folder / "request.cnf").write_text(CERTIFICATE)
        command = [find("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        command += ["-nodes", "-days", "2", "-config", "request.cnf", "-keyout", "key.pem", "-out", "cert.pem"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        self.certificate = folder / "cert.pem"
        options = ["--certificate", self.certificate, "--key", folder / "key.pem"]
        self.tls_upstream = self.start_upstream(options)

    def direct(self) -> Subject:
        """No proxy at all."""
        upstream = self.field.processes[0]
        return Subject("direct", upstream, self.upstream)

    def nginx(self, tls: bool = False, single_use: bool = False) -> Subject:
        """nginx with one worker; with TLS it does not check the certificate."""
        port, folder = free_port(), self.field.subfolder("nginx")
        scheme, to = ("https", self.tls_upstream) if tls else ("http", self.upstream)
        keep = "" if single_use else "keepalive 128; keepalive_requests 100000000;"
        connection = "close" if single_use else ""
        config = NGINX.format(port=port, scheme=scheme, to=to, keep=keep, connection=connection, at=folder)
        (folder / "nginx.conf").write_text(config)
        command = [find("nginx"), "-p", folder, "-c", "nginx.conf", "-e", "stderr"]
        process = self.field.start("nginx", command, PROXY_CORE, folder)
        return Subject("nginx", process.await_port(port), port)

    def haproxy(self) -> Subject:
        """haproxy with one thread."""
        port, folder = free_port(), self.field.subfolder("haproxy")
        (folder / "haproxy.cfg").write_text(HAPROXY.format(port=port, to=self.upstream))
        command = [find("haproxy"), "-db", "-q", "-f", "haproxy.cfg"]
        process = self.field.start("haproxy", command, PROXY_CORE, folder)
        return Subject("haproxy", process.await_port(port), port)

    def envoy(self) -> Subject:
        """Envoy with one worker."""
        port, folder = free_port(), self.field.subfolder("envoy")
        # JSON is YAML too, and needs no library.
        (folder / "envoy.json").write_text(json.dumps(envoy_config(port, self.upstream)))
        command = [find("envoy"), "-c", "envoy.json", "--concurrency", "1", "--disable-hot-restart"]
        process = self.field.start("envoy", [*command, "-l", "error"], PROXY_CORE, folder)
        return Subject("envoy", process.await_port(port), port)

    def idempotent_proxy(self, redis: Redis) -> Subject:
        """ldclabs/idempotent-proxy on a Redis."""
        port, folder = free_port(), self.field.subfolder("idempotent-proxy")
        # It insists on the file, though the environment is enough.
        (folder / ".env").write_text("")
        env = os.environ | {
            "SERVER_ADDR": f"127.0.0.1:{port}",
            "REDIS_URL": f"redis://127.0.0.1:{redis.port}",
            "REQUEST_TIMEOUT": str(PEER_KEEPS_MS),
            "LOG_LEVEL": "error",
        }
        for path, name in PEER_PATHS.items():
            env[name] = f"http://127.0.0.1:{self.upstream}{path}"
        command = [find("idempotent-proxy-server")]
        process = self.field.start("idempotent-proxy", command, PROXY_CORE, folder, env)
        paths = {path: f"/{name}" for path, name in PEER_PATHS.items()}
        return Subject("idempotent-proxy", process.await_port(port), port, redis, paths)

    def redis(self, fsync: str) -> Redis:
        """A Redis that appends to its file and syncs it `always` or `everysec`."""
        port, folder = free_port(), self.field.subfolder("redis")
        command = [find("redis-server"), "--port", port, "--bind", "127.0.0.1", "--dir", folder]
        command += ["--save", "", "--appendonly", "yes", "--appendfsync", fsync]
        # Rewriting its file would be part of some windows and not of others.
        command += ["--auto-aof-rewrite-percentage", "0"]
        process = self.field.start(f"redis {fsync}", command, LOAD_CORE, folder)
        process.await_port(port)
        return Redis(port, process.pid)

    def semel(self, store: str, redis: Redis = None, **options) -> Subject:
        """semel on a store: `pass-through` (which needs none), `memory`, `embedded`, `redis …`."""
        port, admin, folder = free_port(), free_port(), self.field.subfolder(f"semel {store}")
        config = self.semel_config(port, admin, folder, redis if redis else store, **options)
        (folder / "semel.json").write_text(json.dumps(config))
        command = [self.semel_binary, "run", "--config", "semel.json", "--log-filter", "warn"]
        process = self.field.start(f"semel {store}", command, PROXY_CORE, folder)
        process.await_port(admin, lambda: http_ok(admin, "/readyz"))
        name = "semel" if store == "pass-through" else f"semel {store}"
        paths = {} if store != "pass-through" else {"/pay": "/off/pay"}
        return Subject(name, process, port, redis, paths, folder)

    def semel_config(self, port: int, admin: int, folder: Path, store, connections="pooled", tls=False) -> dict:
        """A semel that guards with the key in a header, and under /query with the key in the query."""
        if isinstance(store, Redis):
            kept = {"kind": "redis", "url": f"redis://127.0.0.1:{store.port}"}
        elif store == "embedded":
            kept = {"kind": "embedded", "path": str(folder / "store")}
        else:
            kept = {"kind": "memory"}
        upstream = {"url": f"http://127.0.0.1:{self.upstream}"}
        if tls:
            upstream = {"url": f"https://127.0.0.1:{self.tls_upstream}", "tls": {"ca": str(self.certificate)}}
        # For the scenario with 2,000 requests in flight; nginx and Envoy get the same room.
        upstream |= {"connections": connections, "connections_max": 4096}
        if connections == "single_use":
            upstream["spares"] = SPARES
        return {
            "listen": f"127.0.0.1:{port}",
            "admin": {"listen": f"127.0.0.1:{admin}"},
            "store": kept,
            # Processes that share a store share its secret.
            "secret": {"file": str(self.secret)},
            "upstreams": {"upstream": upstream},
            "routes": [
                {"match": {"path": "/off/**"}, "mode": "off"},
                {
                    "match": {"path": "/query/**"},
                    "key": {"sources": [{"query": "key"}], "missing": "reject"},
                },
                {"match": {"path": "/**"}, "key": {"missing": "reject"}},
            ],
        }


# Connections that are kept ready where each is used once.
SPARES = 16

CERTIFICATE = """
[req]
distinguished_name = name
x509_extensions = leaf
prompt = no
[name]
CN = bench
[leaf]
basicConstraints = critical,CA:FALSE
subjectAltName = IP:127.0.0.1
"""

NGINX = """
daemon off; worker_processes 1; pid {at}/pid; error_log stderr error; worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {at}/body; proxy_temp_path {at}/proxy;
    fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;
    keepalive_requests 100000000; client_max_body_size 0;
    upstream fast {{ server 127.0.0.1:{to}; {keep} }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        proxy_http_version 1.1; proxy_set_header Connection "{connection}";
        location / {{ proxy_pass {scheme}://fast; }}
        # Large bodies: passed on as they come, never through a file.
        location /stream/ {{
            proxy_pass {scheme}://fast;
            proxy_request_buffering off; proxy_max_temp_file_size 0; proxy_buffers 8 64k; proxy_buffer_size 16k;
        }}
    }}
}}
"""

HAPROXY = """
global
    nbthread 1
    maxconn 8192
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    option http-keep-alive
    http-reuse always
frontend bench
    bind 127.0.0.1:{port}
    default_backend fast
backend fast
    server fast 127.0.0.1:{to}
"""


def envoy_config(port: int, to: int) -> dict:
    """Envoy as a plain proxy; its circuit breakers are out of the way, as others have none."""
    kinds = "type.googleapis.com/envoy.extensions.filters"
    address = lambda number: {"socket_address": {"address": "127.0.0.1", "port_value": number}}
    room = {"max_connections": 65_536, "max_pending_requests": 65_536, "max_requests": 65_536}
    manager = {
        "@type": f"{kinds}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "fast", "timeout": "60s"}}],
                }
            ]
        },
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{kinds}.http.router.v3.Router"}}
        ],
    }
    endpoint = {"endpoint": {"address": address(to)}}
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    return {
        "static_resources": {
            "listeners": [{"address": address(port), "filter_chains": [chain]}],
            "clusters": [
                {
                    "name": "fast",
                    "type": "STATIC",
                    "connect_timeout": "5s",
                    "circuit_breakers": {"thresholds": [room]},
                    "load_assignment": {"cluster_name": "fast", "endpoints": [{"lb_endpoints": [endpoint]}]},
                }
            ],
        }
    }
