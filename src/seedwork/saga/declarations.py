"""What the workflows of a system declare: what they send, hear and wait for; and what of it cannot work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pulsaga.delivery.messages import contract_of, is_compensation, owned
from pulsaga.errors import DefinitionError, Unavailable
from pulsaga.records import hints_of
from pulsaga.saga.definition import Saga
from pulsaga.saga.functions import is_taken_by
from pulsaga.saga.log import Progress
from pulsaga.saga.messages import CancelSaga, ChildEnded, SagaMoved
from pulsaga.saga.steps import BEARER, Await, Child, ForEach, Limit, Parallel, Sleep, Step, place
from pulsaga.saga.tokens import FIELD

if TYPE_CHECKING:
    from pulsaga.saga.calendar import Schedule


class Declarations:
    """The workflows and schedules of one system, and the messages that follow from them."""

    def __init__(
        self, name: str, workflows: Sequence[Saga[Any]], module: str, schedules: Sequence[Schedule] = ()
    ) -> None:
        """Drive these workflows; `module` declares the system: without workflows its schemas lie beside."""
        self.name, self.workflows = name, {workflow.key: workflow for workflow in workflows}
        self.schedules = {schedule.name: schedule for schedule in schedules}
        self.module = next((command.__module__ for command in self.starting), module)
        self.moved = owned(SagaMoved, name, self.module)
        self.cancel = owned(CancelSaga, name, self.module, "command")
        self.child_ended = owned(ChildEnded, name, self.module)

    def check(self) -> None:
        """Raise DefinitionError for workflows that cannot work, naming the step and the message."""
        self._check_schedules()
        for workflow in self.workflows.values():
            self._check_start(workflow)
            for path, step in workflow.leaves:
                where = f"workflow {workflow.key}, {place(path)}"
                if step.limit and step.limit.at_most != self.limits[step.limit.key].at_most:
                    raise DefinitionError(f"{where}: the limit {step.limit.key} is another one elsewhere")
                if step.token_for:
                    self._check_token(where, workflow, step)
                if isinstance(step, Child):
                    self._check_child(where, step)
                    continue
                for command in filter(None, (step.sends, step.undoes_by)):
                    if not contract_of(command).replies:
                        raise DefinitionError(f"{where} sends {contract_of(command).name}, which declares no replies")
                if step.undoes_by and not is_compensation(step.undoes_by):
                    raise DefinitionError(
                        f"{where} undoes by {contract_of(step.undoes_by).name}, which has no field `undoes`"
                    )
                for reply in step.unlearned:
                    raise DefinitionError(
                        f"{where}: nobody handles the reply {contract_of(reply).name}; its `learn` takes others"
                    )
            for path, node in workflow.nodes:
                if isinstance(node, Await):
                    self._check_signal(f"workflow {workflow.key}, {place(path)}", path, node)
                    self._check_bearer(f"workflow {workflow.key}, {place(path)}", workflow, node)

    def _check_schedules(self) -> None:
        for schedule in self.schedules.values():
            if schedule.starts not in self.starting:
                name = contract_of(schedule.starts).name
                raise DefinitionError(f"schedule {schedule.name} starts {name}, by which no workflow starts")

    def _check_child(self, where: str, child: Child[Any]) -> None:
        for command in _sent(child):
            if command not in self.starting:
                raise DefinitionError(f"{where} starts {contract_of(command).name}, by which no workflow starts")
        if self._leads_to(child.sends, child.sends, set()):
            raise DefinitionError(f"{where} starts {self.starting[child.sends].name}, which would start itself")

    def _leads_to(self, start: type, end: type, seen: set[type]) -> bool:
        """Tell whether a workflow starts another one, or one that does."""
        seen.add(start)
        below = {
            command for _, step in self.starting[start].leaves if isinstance(step, Child) for command in _sent(step)
        }
        return end in below or any(self._leads_to(one, end, seen) for one in (below & self.starting.keys()) - seen)

    def _check_signal(self, where: str, path: str, wait: Await[Any]) -> None:
        contract = contract_of(wait.signal)
        if (contract.owner == self.name) != (contract.kind == "command"):
            raise DefinitionError(
                f"{where} waits for {contract.name}: a command of {self.name} is needed, or an event of a service"
            )
        if wait.signal in self.replies or wait.signal in self.starting:
            raise DefinitionError(f"{where} waits for {contract.name}, which answers a step or starts a workflow")
        if "each" in path.split("/"):
            raise DefinitionError(f"{where} waits for {contract.name}, which says not of which item it is")
        if wait.learn and not is_taken_by(wait.learn, wait.signal):
            raise DefinitionError(f"{where}: the `learn` of {contract.name} takes another message")

    def _check_bearer(self, where: str, workflow: Saga[Any], wait: Await[Any]) -> None:
        if wait.by and contract_of(wait.signal).kind == "event":
            raise DefinitionError(f"{where} waits for {wait.name}, an event: a service tells it, and no caller may")
        if wait.signal not in self.borne:
            return
        if wait.by != BEARER:
            raise DefinitionError(f"{where} waits for {wait.name}, which whoever bears a token may send elsewhere")
        if [node.signal for _, node in workflow.nodes if isinstance(node, Await)].count(wait.signal) > 1:
            raise DefinitionError(
                f"{where} waits for {wait.name}, as another step does: a token says not which it is for"
            )
        if not any(step.token_for is wait.signal for _, step in workflow.leaves):
            raise DefinitionError(f"{where} waits for {wait.name}, for which no step brings a token")

    def _check_token(self, where: str, workflow: Saga[Any], step: Step[Any]) -> None:
        assert step.token_for is not None
        name = contract_of(step.token_for).name
        if isinstance(step, Child):
            raise DefinitionError(f"{where} starts a workflow, which brings nobody a token for {name}")
        if hints_of(step.sends).get(FIELD) is not str:
            raise DefinitionError(f"{where} brings a token: {contract_of(step.sends).name} has no text field {FIELD}")
        waits = [node for _, node in workflow.nodes if isinstance(node, Await) and node.by == BEARER]
        if not any(wait.signal is step.token_for for wait in waits):
            raise DefinitionError(f"{where} brings a token for {name}, which nobody who bears one may send")

    def _check_start(self, workflow: Saga[Any]) -> None:
        workflow.check_data()
        contract = contract_of(workflow.starts)
        if contract.kind != "command" or contract.owner != self.name:
            raise DefinitionError(
                f"workflow {workflow.key} is started by {contract.name}: a command of {self.name} is needed"
            )
        for other in self.workflows.values():
            if other.starts is workflow.starts and other.name != workflow.name:
                raise DefinitionError(f"{contract.name} starts two workflows, {workflow.name} and {other.name}")

    @cached_property
    def starting(self) -> Mapping[type, Saga[Any]]:
        """The workflow that each command starts: of several versions the newest."""
        ordered = sorted(self.workflows.values(), key=lambda workflow: workflow.version)
        return {workflow.starts: workflow for workflow in ordered}

    @cached_property
    def has_branches(self) -> bool:
        """Whether any workflow takes several steps at once."""
        nodes = (node for workflow in self.workflows.values() for _, node in workflow.nodes)
        return any(isinstance(node, Parallel | ForEach) for node in nodes)

    @cached_property
    def limits(self) -> Mapping[str, Limit]:
        """The limits that any step is under, by their keys."""
        steps = (step for workflow in self.workflows.values() for _, step in workflow.leaves)
        return {step.limit.key: step.limit for step in steps if step.limit}

    @cached_property
    def has_children(self) -> bool:
        """Whether any workflow starts others."""
        return any(isinstance(step, Child) for workflow in self.workflows.values() for _, step in workflow.leaves)

    @cached_property
    def sent(self) -> Sequence[type]:
        """The commands that are sent to services."""
        steps = (step for workflow in self.workflows.values() for _, step in workflow.leaves)
        return [command for step in steps if not isinstance(step, Child) for command in _sent(step)]

    @cached_property
    def replies(self) -> Mapping[type, None]:
        """The replies to them, in the order of the workflows."""
        return dict.fromkeys(reply for command in self.sent for reply in contract_of(command).replies)

    @cached_property
    def signals(self) -> Sequence[type]:
        """The classes of the signals that any saga waits for."""
        nodes = (node for workflow in self.workflows.values() for _, node in workflow.nodes)
        return list(dict.fromkeys(node.signal for node in nodes if isinstance(node, Await)))

    @cached_property
    def borne(self) -> frozenset[type]:
        """The signals that whoever bears a token may send."""
        nodes = (node for workflow in self.workflows.values() for _, node in workflow.nodes)
        return frozenset(node.signal for node in nodes if isinstance(node, Await) and node.by == BEARER)

    def workflow_of(self, progress: Progress) -> Saga[Any]:
        """Return the workflow by which a saga began; raise Unavailable where only another release declares it."""
        return self.declared(progress.workflow)

    def declared(self, key: str) -> Saga[Any]:
        """Return a workflow by name and version; raise Unavailable where only another release declares it."""
        if key not in self.workflows:
            raise Unavailable(f"no workflow {key} is declared here, and sagas of it have not ended")
        return self.workflows[key]

    def subject_of(self, progress: Progress) -> str:
        """Return whom or what a saga is for."""
        return self.workflow_of(progress).subject_of(progress.data)

    @property
    def longest_wait_s(self) -> float:
        """Seconds of the longest deadline or rest of any step."""
        nodes = (node for flow in self.workflows.values() for _, node in flow.nodes)
        return max((node.longest for node in nodes if isinstance(node, Step | Sleep | Await)), default=0.0)

    @property
    def longest_silence_s(self) -> float:
        """Seconds of the longest silence after which any step sends again."""
        return max((step.retry.longest for flow in self.workflows.values() for _, step in flow.leaves), default=0.0)


def _sent(step: Any) -> Iterable[type]:
    return filter(None, (step.sends, step.undoes_by))
