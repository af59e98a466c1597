"""What the chart renders keeps its promises; schema, dashboard and alerts name what exists. Run by tests/deploy/run."""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy/helm/globaldns"
SELECTORS = {
    "istiocoredns": {"app": "istiocoredns"},
    "istiocoredns-manage": {"app": "istiocoredns"},
    "banzai": {"app": "istio-istiocoredns", "istio": "istiocoredns"},
    "banzai-1.7": {"app": "istio-istiocoredns", "istio": "istiocoredns", "istio.io/rev": "mesh.istio-system"},
}
problems = []


def expect(condition, what):
    if not condition:
        problems.append(what)


def main():
    schema_is_complete()
    for path in sorted((ROOT / "tests/deploy/golden").glob("*.yaml")):
        rendered(path.stem, [o for o in yaml.safe_load_all(path.read_text()) if o])
    metrics_exist()
    dashboard()
    for problem in problems:
        print(problem, file=sys.stderr)
    sys.exit(bool(problems))


def schema_is_complete():
    """Every value has a description, and none is described that is not there."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def walk(schema, values, path):
        properties = schema.get("properties")
        if properties is None:
            return
        expect(schema.get("additionalProperties") is False, f"schema: {path or 'top'} lets anything in")
        known = set(properties) - {"global"}
        expect(known == set(values), f"schema and values differ at {path or 'top'}: {known ^ set(values)}")
        for name, value in values.items():
            expect(properties.get(name, {}).get("description"), f"schema: {path}{name} has no description")
            if isinstance(value, dict):
                walk(properties.get(name, {}), value, f"{path}{name}.")

    walk(schema, values, "")


def rendered(profile, objects):
    by_kind = {}
    for o in objects:
        by_kind.setdefault(o["kind"], []).append(o)
    (workload,) = by_kind.get("Deployment", []) + by_kind.get("DaemonSet", [])
    (service,) = [o for o in by_kind["Service"] if o["spec"].get("clusterIP") != "None"]
    headless = [o for o in by_kind["Service"] if o["spec"].get("clusterIP") == "None"]
    pod = workload["spec"]["template"]
    labels = pod["metadata"]["labels"]
    pods = [("pod", pod)] + [("Job", job["spec"]["template"]) for job in by_kind.get("Job", [])]

    def say(condition, what):
        expect(condition, f"{profile}: {what}")

    for which, template in pods:
        spec = template["spec"]
        context = spec["securityContext"]
        say(context["runAsNonRoot"] and context["runAsUser"] == 65532, f"{which} may be root")
        own = {"type": "Localhost", "localhostProfile": "profiles/globaldns.json"}
        wanted = own if profile == "everything" else {"type": "RuntimeDefault"}
        say(context["seccompProfile"] == wanted, f"{which} has no seccomp profile")
        say(spec["dnsPolicy"] == ("ClusterFirst" if headless and which == "pod" else "Default"), f"{which} asks cluster DNS")
        say(template["metadata"]["labels"]["sidecar.istio.io/inject"] == "false", f"{which} gets a sidecar")
        say(template["metadata"]["labels"]["istio.io/dataplane-mode"] == "none", f"{which} is in the ambient mesh")
        (container,) = spec["containers"]
        security = container["securityContext"]
        say(security["readOnlyRootFilesystem"], f"{which} can write its root")
        say(security["allowPrivilegeEscalation"] is False, f"{which} can gain rights")
        say(security["capabilities"]["drop"] == ["ALL"], f"{which} keeps capabilities")
        # Where it is told to write, it can.
        state = {one["name"]: one["value"] for one in container["env"]}.get("GLOBALDNS_STATE_DIR", "")
        mounts = {one["name"]: one["mountPath"] for one in container.get("volumeMounts", [])}
        volumes = [one["name"] for one in spec.get("volumes", [])]
        say(list(mounts) == volumes, f"{which} mounts {list(mounts)} of {volumes}")
        say(any(state.startswith(f"{mount}/") for mount in mounts.values()) == bool(state), f"{which} saves in its root")
        port = container.get("ports", [{"containerPort": 5353}])[0]["containerPort"]
        added = security["capabilities"].get("add", [])
        say(added == (["NET_BIND_SERVICE"] if port < 1024 else []), f"{which} adds {added} for port {port}")
        say("limits" not in container["resources"] or "cpu" not in container["resources"]["limits"], "a CPU limit")
        say(re.search(r":\d+\.\d+\.\d+$|@sha256:[0-9a-f]{64}$", container["image"]), "an image that moves")

    def selects(selector, labels):
        return selector.items() <= labels.items()

    selector = workload["spec"]["selector"]["matchLabels"]
    say(selects(selector, labels), "the workload does not select its pods")
    if profile in SELECTORS:
        say(selector == SELECTORS[profile], "the old, immutable selector has changed")
        say([p["port"] for p in service["spec"]["ports"]] == [53, 53], "the old Service had DNS alone")
        say(service["metadata"]["name"] == workload["metadata"]["name"] == "istiocoredns", "the old names")
    say(selects(service["spec"]["selector"], labels), "the Service does not select the pods")
    for which, template in pods[1:]:
        say(not selects(service["spec"]["selector"], template["metadata"]["labels"]), f"the Service selects the {which}")
        say(not selects(selector, template["metadata"]["labels"]), f"the workload selects the {which}")
    names = {p["name"]: p["protocol"] for p in pod["spec"]["containers"][0]["ports"]}
    for port in service["spec"]["ports"]:
        say(names.get(port["targetPort"]) == port["protocol"], f"Service port {port['name']} goes nowhere")
    environment = {one["name"]: one["value"] for one in pod["spec"]["containers"][0]["env"]}
    say(bool(headless) == (profile == "everything"), "replicas are compared only where that is asked for")
    for one in headless:
        say(selects(one["spec"]["selector"], labels), "the headless Service does not select the pods")
        (port,) = one["spec"]["ports"]
        name = f"{one['metadata']['name']}.{one['metadata']['namespace']}.svc.cluster.local.:{port['port']}"
        say(environment.get("GLOBALDNS_PEERS") == name, f"replicas are looked for at {environment.get('GLOBALDNS_PEERS')}")
        (policy,) = by_kind["NetworkPolicy"]
        admin = [rule["from"] for rule in policy["spec"]["ingress"] if rule["ports"][0]["port"] == port["port"]]
        say(any("podSelector" in peer for peer in admin[0]), "the policy keeps replicas from each other")
    inside = {p["name"]: p["containerPort"] for p in pod["spec"]["containers"][0]["ports"]}
    for name, port in (("tls", 853), ("https", 443), ("quic", 853)):
        listens = environment.get(f"GLOBALDNS_{name.upper()}_LISTEN")
        say(listens in (None, f":{inside.get(name)}"), f"nothing listens on the port {name}")
        say([p["port"] for p in service["spec"]["ports"] if p["name"] == name] == [port] * bool(listens), f"no way to {name}")
        for policy in by_kind.get("NetworkPolicy", []):
            opens = [(p["port"], p["protocol"]) for p in policy["spec"]["ingress"][0]["ports"]]
            say(not listens or (inside[name], names[name]) in opens, f"the NetworkPolicy cuts off {name}")
    secrets = {v["name"] for v in pod["spec"].get("volumes", []) if "secret" in v}
    say(("certificate" in secrets) == ("GLOBALDNS_TLS_CERT" in environment), "the certificate is not that of a Secret")
    say(("cookies" in secrets) == ("GLOBALDNS_COOKIE_SECRET_FILE" in environment), "the cookies' secrets are not those of a Secret")
    dns = {(p["port"], p["protocol"]) for p in service["spec"]["ports"] if p["name"].startswith("dns")}
    say(dns == {(53, "UDP"), (53, "TCP")}, "the Service is not DNS")
    say(service["spec"].get("clusterIP") != "None", "headless")
    say(service["metadata"]["annotations"].get("helm.sh/resource-policy") == "keep", "uninstalling loses the ClusterIP")

    for budget in by_kind["PodDisruptionBudget"]:
        say(selects(budget["spec"]["selector"]["matchLabels"], labels), "the budget is for no pod")
        scaler = by_kind.get("HorizontalPodAutoscaler", [None])[0]
        fewest = scaler["spec"]["minReplicas"] if scaler else workload["spec"].get("replicas", 1)
        say(budget["spec"].get("minAvailable", 0) < fewest, "the budget lets no pod go")
    for scaler in by_kind.get("HorizontalPodAutoscaler", []):
        say("replicas" not in workload["spec"], "replicas and the autoscaler disagree")
        say(scaler["spec"]["scaleTargetRef"]["name"] == workload["metadata"]["name"], "the autoscaler scales nothing")
    for policy in by_kind.get("NetworkPolicy", []):
        say(selects(policy["spec"]["podSelector"]["matchLabels"], labels), "the NetworkPolicy is for no pod")
        if profile in SELECTORS:
            # It selects the old pods, too, which answer until ours do, and again after a way back.
            ports = {(p["port"], p["protocol"]) for rule in policy["spec"]["ingress"] for p in rule["ports"]}
            say({(53, "UDP"), (53, "TCP"), (9153, "TCP")} <= ports, "the NetworkPolicy cuts off the old pods")

    # Every role is bound, to our ServiceAccount, and every binding has its role.
    (account,) = (a["metadata"]["name"] for a in by_kind["ServiceAccount"])
    say(pod["spec"]["serviceAccountName"] == account, "the pods are somebody else")
    bound = set()
    for binding in by_kind.get("RoleBinding", []) + by_kind.get("ClusterRoleBinding", []):
        (subject,) = binding["subjects"]
        say(subject["name"] == account and subject["namespace"] == "istio-system", "rights for somebody else")
        reference = binding["roleRef"]
        where = binding["metadata"].get("namespace") if reference["kind"] == "Role" else None
        bound.add((reference["kind"], where, reference["name"]))
    roles = {
        (r["kind"], r["metadata"].get("namespace"), r["metadata"]["name"])
        for r in by_kind.get("Role", []) + by_kind.get("ClusterRole", [])
    }
    say(bound == roles, f"roles without bindings or bindings without roles: {bound ^ roles}")
    for role in by_kind.get("Role", []) + by_kind.get("ClusterRole", []):
        for rule in role["rules"]:
            say("*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"], "a right to everything")
    # Environment variables are the flags of README.md.
    flags = {
        "GLOBALDNS_" + flag.upper().replace("-", "_")
        for flag in re.findall(r"^\| `--([a-z-]+)", (ROOT / "README.md").read_text(), re.M)
    }
    for _, template in pods:
        for variable in template["spec"]["containers"][0]["env"]:
            say(variable["name"] in flags, f"{variable['name']} is no flag")


def expressions():
    """Every PromQL expression: of the alerts, and of the dashboard."""
    rules = yaml.safe_load((ROOT / "deploy/prometheus/rules.yaml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    panels = json.loads((ROOT / "deploy/grafana/globaldns.json").read_text())["panels"]
    for panel in panels:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


def metrics_exist():
    """README.md has every metric of the alerts and the dashboard; the tests show that it has those of the program."""
    readme = (ROOT / "README.md").read_text()
    documented = {name for name in re.findall(r"^\| `(globaldns_[a-z0-9_]+)`", readme, re.M)}
    expect(len(documented) > 20, f"README.md has but {len(documented)} metrics")
    shown = set()
    for where, expression in expressions():
        for name in re.findall(r"\b((?:globaldns|process)_[a-z0-9_]+)", expression):
            base = re.sub(r"_(bucket|sum|count)$", "", name)
            shown.add(base)
            known = base in documented or base in {
                "process_cpu_seconds_total", "process_resident_memory_bytes"
            }
            expect(known, f"{where}: there is no metric {name}")
    missing = documented - shown
    expect(not missing, f"neither an alert nor a panel shows {sorted(missing)}")


def dashboard():
    panels = json.loads((ROOT / "deploy/grafana/globaldns.json").read_text())["panels"]
    numbers = [panel["id"] for panel in panels]
    expect(len(set(numbers)) == len(numbers), "dashboard: panels with one number")
    # Prometheus itself reads the expressions, as recording rules, with Grafana's variables filled in.
    rules = []
    for number, (_, expression) in enumerate(expressions()):
        expression = expression.replace("$__rate_interval", "5m")
        rules.append({"record": f"check:{number}", "expr": re.sub(r"\$[a-z]+", "x", expression)})
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}, file)
        file.flush()
        done = subprocess.run(["promtool", "check", "rules", file.name], capture_output=True, text=True, check=False)
        expect(done.returncode == 0, f"dashboard: {done.stdout}{done.stderr}")


main()
