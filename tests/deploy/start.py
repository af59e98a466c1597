"""The program takes the arguments and the environment of every rendered container: start.py BINARY. Run by tests/deploy/run."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
#: An API server that nobody runs: the program goes on trying, its commands fail.
KUBECONFIG = """\
apiVersion: v1
kind: Config
current-context: nowhere
clusters: [{name: nowhere, cluster: {server: "http://127.0.0.1:1"}}]
contexts: [{name: nowhere, context: {cluster: nowhere, user: nobody}}]
users: [{name: nobody, user: {token: none}}]
"""
USAGE = 2


def started(command, environment):
    """Whether it serves all it is to serve, or fails for another reason than what it was told."""
    wanted = {over for over in ("TLS", "HTTPS", "QUIC") if f"GLOBALDNS_{over}_LISTEN" in environment}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        said = []
        for line in process.stderr:
            said.append(line)
            wanted = {over for over in wanted if f"serving DNS over {over}" not in line}
            if "serving DNS" in line and not wanted:
                process.kill()
                return True, said
        return process.wait() != USAGE, said


def main():
    with (
        tempfile.NamedTemporaryFile("w", suffix=".yaml") as kubeconfig,
        tempfile.NamedTemporaryFile("w") as cookies,
        tempfile.TemporaryDirectory() as state,
        tempfile.TemporaryDirectory() as secret,
    ):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
            + ["-subj", "/CN=globaldns", "-keyout", f"{secret}/tls.key", "-out", f"{secret}/tls.crt"],
            check=True,
            capture_output=True,
        )
        cookies.write("00112233445566778899aabbccddeeff\n")
        cookies.flush()
        kubeconfig.write(KUBECONFIG)
        kubeconfig.flush()
        for path in sorted((ROOT / "tests/deploy/golden").glob("*.yaml")):
            for manifest in filter(None, yaml.safe_load_all(path.read_text())):
                if manifest["kind"] not in ("Deployment", "DaemonSet", "Job"):
                    continue
                (container,) = manifest["spec"]["template"]["spec"]["containers"]
                environment = {one["name"]: one["value"] for one in container["env"]}
                environment.update(PATH=os.environ["PATH"], GLOBALDNS_KUBECONFIG=kubeconfig.name)
                for listener in ("", "_ADMIN", "_TLS", "_HTTPS", "_QUIC"):
                    # Their ports may be taken here.
                    if f"GLOBALDNS{listener}_LISTEN" in environment:
                        environment[f"GLOBALDNS{listener}_LISTEN"] = "127.0.0.1:0"
                for file in ("GLOBALDNS_TLS_CERT", "GLOBALDNS_TLS_KEY"):
                    if file in environment:
                        environment[file] = f"{secret}/{Path(environment[file]).name}"
                if "GLOBALDNS_STATE_DIR" in environment:
                    environment["GLOBALDNS_STATE_DIR"] = state
                if "GLOBALDNS_COOKIE_SECRET_FILE" in environment:
                    environment["GLOBALDNS_COOKIE_SECRET_FILE"] = cookies.name
                well, said = started([sys.argv[1], *container["args"]], environment)
                if not well:
                    sys.exit(f"{path.name}: {manifest['kind']} is refused: {''.join(said)}")


main()
