"""The whole journey of a user through an unmodified Python SDK, each step judged by what the SDK's own objects show.

In: a client of the service, one of resource groups, and how their generations name things. Out: a line with its seconds for each step,
or the first claim that does not hold. Both generations of the SDK go the same way; `sdk2.py` and `sdk7.py` make their clients.
"""

import contextlib
import os
import pathlib
import sys
import time

import requests

ENDPOINT = os.environ["BATCHYARD_ENDPOINT"]
TLS_ENDPOINT = os.environ["BATCHYARD_TLS_ENDPOINT"]
SUBSCRIPTION = os.environ["BATCHYARD_SUBSCRIPTION"]
TENANT = os.environ["BATCHYARD_TENANT"]
CLIENT_ID = os.environ["BATCHYARD_CLIENT_ID"]
CLIENT_SECRET = os.environ["BATCHYARD_CLIENT_SECRET"]
TOKEN = os.environ["BATCHYARD_TOKEN"]
HOST_SHARE = pathlib.Path(os.environ["BATCHYARD_SHARE"])

SHARE = "$AZ_BATCHAI_MOUNT_ROOT/shared"

# Longest wait for anything, in seconds.
PATIENCE = 60

# Time between two looks at something that changes by itself, in seconds: the SDKs have no other way to wait for a job.
LOOK = 0.1

# Writes a line, waits until that was read, and writes another: what follows it sees both only while it runs. Then a file, which holds a
# variable and a secret.
COMMAND = (
    'echo epoch 1; until [ -e "$AZ_BATCHAI_MOUNT_ROOT/shared/$GATE" ]; do sleep 0.05; done; echo epoch 2; echo done >&2; '
    'printf %s "$GREETING $PASSWORD" > $AZ_BATCHAI_OUTPUT_MODEL/weights.txt'
)


@contextlib.contextmanager
def step(name):
    """One step: says its seconds, or why it does not hold."""
    began = time.monotonic()
    yield
    print(f"    {name:<36} {time.monotonic() - began:6.2f} s", flush=True)


def until(what, look, wanted):
    """Looks until `wanted` holds, and answers what was seen then."""
    deadline = time.monotonic() + PATIENCE
    while True:
        seen = look()
        if wanted(seen):
            return seen
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE} s; last seen: {seen}"
        time.sleep(LOOK)


def refused(call, exception, status, code):
    """Asserts that `call` is refused as the SDK tells it."""
    try:
        call()
    except exception as error:
        seen = getattr(error, "status_code", None)
        assert seen == status, f"status {seen}: {error}"
        told = getattr(error.error, "code", None) or error.error.error
        assert told == code, f"code {told}: {error}"
        assert error.message, "a refusal has a text"
    else:
        raise AssertionError(f"not refused with {code}")


class Journey:
    """What differs between the generations, and the way that is the same."""

    def __init__(self, client, resources, models, options, exception, name):
        self.client, self.resources, self.models, self.options = client, resources, models, options
        self.exception = exception
        self.group = name

    @staticmethod
    def begin(operations, verb, *arguments):
        """Starts a long-running operation: `begin_create` or, in the older generation, `create`. Waits for its end."""
        method = getattr(operations, "begin_" + verb, None) or getattr(operations, verb)
        poller = method(*arguments)
        poller.wait(PATIENCE)
        assert poller.done(), f"{verb} is not done within {PATIENCE} s"
        return poller.result()

    def run(self):
        """Goes all the way."""
        began = time.monotonic()
        with step("resource group"):
            self.make_group()
        with step("workspace"):
            self.make_workspace()
        with step("cluster"):
            self.make_cluster()
        with step("its node is idle"):
            self.wait_idle(1)
        with step("remote login"):
            self.log_in()
        with step("experiment"):
            self.make_experiment()
        with step("job"):
            self.make_job("train", COMMAND)
        with step("stream and wait"):
            self.follow("train")
        with step("files"):
            self.read_files("train")
        with step("terminate another"):
            self.terminate()
        with step("resize to 2, then 0"):
            self.resize(2)
            self.resize(0)
        with step("usages"):
            self.read_usages()
        with step("refusals"):
            self.be_refused()
        with step("delete"):
            self.delete()
        print(f"    {'whole journey':<36} {time.monotonic() - began:6.2f} s", flush=True)

    def make_group(self):
        groups = self.resources.resource_groups
        assert not groups.check_existence(self.group)
        made = groups.create_or_update(self.group, {"location": "eastus", "tags": {"purpose": "journey"}})
        assert made.name == self.group and made.location == "eastus", made
        assert made.properties.provisioning_state == "Succeeded", made
        assert made.tags == {"purpose": "journey"}, made.tags
        assert groups.check_existence(self.group)
        assert self.group in [group.name for group in groups.list()]

    def make_workspace(self):
        workspaces = self.client.workspaces
        parameters = self.models.WorkspaceCreateParameters(location="eastus", tags={"team": "vision"})
        if hasattr(workspaces, "begin_create"):
            made = self.begin(workspaces, "create", self.group, "vision", parameters)
        else:
            made = self.begin(workspaces, "create", self.group, "vision", "eastus")
            made = workspaces.update(self.group, "vision", tags={"team": "vision"})
        assert made.name == "vision" and made.location == "eastus", made
        assert made.type.lower() == "microsoft.batchai/workspaces", made.type
        assert made.provisioning_state == "succeeded" and made.tags == {"team": "vision"}, made
        assert made.creation_time.tzinfo is not None, made.creation_time
        found = workspaces.get(self.group, "vision")
        assert found.id == made.id, (found.id, made.id)
        assert [w.name for w in workspaces.list_by_resource_group(self.group)] == ["vision"]
        assert made.id.lower() in [w.id.lower() for w in workspaces.list()]

    def make_cluster(self):
        models = self.models
        parameters = models.ClusterCreateParameters(
            vm_size="STANDARD_D1",
            user_account_settings=models.UserAccountSettings(admin_user_name="ops", admin_user_password="not told again"),
            scale_settings=models.ScaleSettings(manual=models.ManualScaleSettings(target_node_count=1)),
        )
        made = self.begin(self.client.clusters, "create", self.group, "vision", "pair", parameters)
        assert made.name == "pair" and made.vm_size == "STANDARD_D1", made
        assert made.provisioning_state == "succeeded", made.provisioning_state
        assert made.vm_priority == "dedicated", made.vm_priority
        assert made.scale_settings.manual.target_node_count == 1, made.scale_settings
        assert made.user_account_settings.admin_user_name == "ops"
        assert made.user_account_settings.admin_user_password is None, "secrets are not told"
        assert [c.name for c in self.client.clusters.list_by_workspace(self.group, "vision")] == ["pair"]
        self.cluster_id = made.id

    def wait_idle(self, nodes):
        def idle(cluster):
            assert not cluster.errors, [error.message for error in cluster.errors]
            counts = cluster.node_state_counts
            assert None not in (counts.running_node_count, counts.preparing_node_count, counts.leaving_node_count)
            return (
                cluster.allocation_state == "steady"
                and cluster.current_node_count == nodes
                and counts.idle_node_count == nodes
                and counts.unusable_node_count == 0
            )

        return until(f"{nodes} idle nodes", lambda: self.client.clusters.get(self.group, "vision", "pair"), idle)

    def log_in(self):
        (login,) = list(self.client.clusters.list_remote_login_information(self.group, "vision", "pair"))
        assert login.node_id and login.ip_address and 0 < login.port < 65536, login

    def make_experiment(self):
        made = self.begin(self.client.experiments, "create", self.group, "vision", "digits")
        assert made.name == "digits" and made.provisioning_state == "succeeded", made
        assert [e.name for e in self.client.experiments.list_by_workspace(self.group, "vision")] == ["digits"]

    def make_job(self, name, command):
        models = self.models
        parameters = models.JobCreateParameters(
            cluster=models.ResourceId(id=self.cluster_id),
            node_count=1,
            std_out_err_path_prefix=SHARE,
            custom_toolkit_settings=models.CustomToolkitSettings(command_line=command),
            output_directories=[models.OutputDirectory(id="MODEL", path_prefix=SHARE, path_suffix="model")],
            environment_variables=[
                models.EnvironmentVariable(name="GREETING", value="hello"),
                models.EnvironmentVariable(name="GATE", value=self.group),
            ],
            secrets=[models.EnvironmentVariableWithSecretValue(name="PASSWORD", value="pa55word")],
        )
        made = self.begin(self.client.jobs, "create", self.group, "vision", "digits", name, parameters)
        assert made.name == name and made.provisioning_state == "succeeded", made
        assert made.tool_type == "custom" and made.node_count == 1, made
        assert made.execution_state in ("queued", "running", "succeeded"), made.execution_state
        assert made.cluster.id.lower() == self.cluster_id.lower(), made.cluster.id
        assert made.environment_variables[0].value == "hello"
        assert [s.name for s in made.secrets] == ["PASSWORD"] and made.secrets[0].value is None, "secrets are not told"
        assert made.constraints.max_wall_clock_time.days > 0, made.constraints
        assert name in [j.name for j in self.client.jobs.list_by_experiment(self.group, "vision", "digits")]

    def job(self, name):
        return self.client.jobs.get(self.group, "vision", "digits", name)

    def files(self, name, directory_id):
        listed = self.client.jobs.list_output_files(self.group, "vision", "digits", name, self.options(directory_id))
        return {file.name: file for file in listed}

    def follow(self, name):
        """Prints a job's output while it is written, as `az batchai job file stream` does: by ranges of its link, without a token."""
        link = until("stdout.txt", lambda: self.files(name, "stdouterr"), lambda files: "stdout.txt" in files)["stdout.txt"]
        read, pieces = b"", 0
        while True:
            # The state before the bytes: what was written before the end is there when the end shows.
            job = self.job(name)
            answer = requests.get(link.download_url, headers={"Range": f"bytes={len(read)}-"}, timeout=PATIENCE)
            assert answer.status_code in (200, 206, 416), answer.text
            if answer.status_code == 206 and answer.content:
                read, pieces = read + answer.content, pieces + 1
                (HOST_SHARE / self.group).touch()
            if job.execution_state in ("succeeded", "failed"):
                break
            time.sleep(LOOK)
        assert job.execution_state == "succeeded", job.execution_info
        assert read == b"epoch 1\nepoch 2\n" and pieces == 2, (read, pieces)
        info = job.execution_info
        assert info.exit_code == 0 and not info.errors, info
        assert info.end_time >= info.start_time, info

    def read_files(self, name):
        logs = self.files(name, "stdouterr")
        assert {"stdout.txt", "stderr.txt"} <= set(logs), logs
        assert requests.get(logs["stderr.txt"].download_url, timeout=PATIENCE).text == "done\n"
        weights = self.files(name, "MODEL")["weights.txt"]
        content = requests.get(weights.download_url, timeout=PATIENCE).content
        assert content == b"hello pa55word", content
        assert weights.file_type == "file" and weights.content_length == len(content), weights
        assert weights.last_modified.tzinfo is not None

    def terminate(self):
        self.make_job("endless", "echo begun; sleep 600")
        until("the job runs", lambda: self.job("endless"), lambda job: job.execution_state == "running")
        running = self.job("endless")
        assert running.execution_info.start_time is not None and running.execution_info.end_time is None
        nodes = list(self.client.jobs.list_remote_login_information(self.group, "vision", "digits", "endless"))
        assert len(nodes) == 1 and nodes[0].ip_address, nodes
        self.begin(self.client.jobs, "terminate", self.group, "vision", "digits", "endless")
        ended = until("the job ends", lambda: self.job("endless"), lambda job: job.execution_state in ("succeeded", "failed"))
        assert ended.execution_state == "failed", ended.execution_state
        info = ended.execution_info
        assert info.end_time >= info.start_time and info.exit_code is None, info
        assert [error.code for error in info.errors] == ["JobTerminated"], info.errors

    def resize(self, nodes):
        models = self.models
        scale = models.ScaleSettings(
            manual=models.ManualScaleSettings(target_node_count=nodes, node_deallocation_option="terminate")
        )
        clusters = self.client.clusters
        if hasattr(clusters, "begin_create"):
            parameters = models.ClusterUpdateParameters(scale_settings=scale)
            made = clusters.update(self.group, "vision", "pair", parameters)
        else:
            made = clusters.update(self.group, "vision", "pair", scale)
        assert made.scale_settings.manual.target_node_count == nodes, made.scale_settings
        self.wait_idle(nodes)

    def read_usages(self):
        usages = {usage.name.value: usage for usage in self.client.usages.list("eastus")}
        clusters = next(usage for name, usage in usages.items() if name.lower() == "clusters")
        assert clusters.current_value >= 1 and clusters.limit >= clusters.current_value, clusters
        assert clusters.name.localized_value and clusters.unit == "Count", clusters

    def be_refused(self):
        client, group = self.client, self.group
        refused(lambda: client.clusters.get(group, "vision", "absent"), self.exception, 404, "ClusterNotFound")
        refused(lambda: client.jobs.get(group, "vision", "digits", "absent"), self.exception, 404, "JobNotFound")
        models = self.models
        wrong = models.ClusterCreateParameters(
            vm_size="STANDARD_Q9",
            user_account_settings=models.UserAccountSettings(admin_user_name="ops"),
            scale_settings=models.ScaleSettings(manual=models.ManualScaleSettings(target_node_count=0)),
        )
        try:
            self.begin(client.clusters, "create", group, "vision", "wrong", wrong)
        except self.exception as error:
            assert error.status_code == 400 and "STANDARD_Q9" in error.message, error
        else:
            raise AssertionError("a size that does not exist is not refused")

    def delete(self):
        client, group = self.client, self.group
        self.begin(client.jobs, "delete", group, "vision", "digits", "endless")
        assert [j.name for j in client.jobs.list_by_experiment(group, "vision", "digits")] == ["train"]
        self.begin(client.experiments, "delete", group, "vision", "digits")
        assert not list(client.experiments.list_by_workspace(group, "vision"))
        self.begin(client.clusters, "delete", group, "vision", "pair")
        assert not list(client.clusters.list_by_workspace(group, "vision"))
        self.begin(client.workspaces, "delete", group, "vision")
        assert not list(client.workspaces.list_by_resource_group(group))
        # What is not there is deleted already.
        self.begin(client.workspaces, "delete", group, "vision")
        self.begin(self.resources.resource_groups, "delete", group)
        assert not self.resources.resource_groups.check_existence(group)


def main(ways):
    """Runs the journeys that are named on the command line, or all."""
    for name in sys.argv[1:] or ways:
        print(f"  {name}", flush=True)
        ways[name]().run()
