"""Run sagas on Temporal: client and worker share one connection, so that the first task comes with the start's answer.

Arguments: address of the frontend, URL of the database, task queue, slots, `activities` or `local-activities`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from datetime import timedelta
from typing import Any

import drive
import rows
from google.protobuf.duration_pb2 import Duration
from temporalio import activity, workflow
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

LIMIT = timedelta(seconds=60)
CONNECTIONS = 8
PATIENCE_S = 40
_rows: rows.AsyncRows


@activity.defn
async def generate(saga: str) -> str:
    """Do step 1."""
    return await _rows.generate(saga)


@activity.defn
async def mail(saga: str, recipient: str) -> None:
    """Do step 2."""
    await _rows.mail(saga, recipient)


@workflow.defn
class IssuePassword:
    """Run each step as an activity, which the server hands out and stores the result of."""

    @workflow.run
    async def run(self, saga: str) -> None:
        """Run the two steps of one saga."""
        recipient = await workflow.execute_activity(generate, saga, start_to_close_timeout=LIMIT)
        await workflow.execute_activity(mail, args=[saga, recipient], start_to_close_timeout=LIMIT)


@workflow.defn
class IssuePasswordLocally:
    """Run each step as a local activity: the worker tells the server of both at once, when the workflow ends."""

    @workflow.run
    async def run(self, saga: str) -> None:
        """Run the two steps of one saga."""
        recipient = await workflow.execute_local_activity(generate, saga, start_to_close_timeout=LIMIT)
        await workflow.execute_local_activity(mail, args=[saga, recipient], start_to_close_timeout=LIMIT)


async def main(address: str, url: str, queue: str, slots: int, kind: str) -> None:
    """Work and serve until standard input closes."""
    global _rows
    rows.create_tables(url)
    _rows = rows.AsyncRows(url, CONNECTIONS)
    await _rows.open()
    client = await _connect(address)
    flow: Any = IssuePasswordLocally if kind == "local-activities" else IssuePassword
    async with _worker(client, queue, slots):

        async def saga(key: str) -> None:
            await client.execute_workflow(flow.run, key, id=key, task_queue=queue, request_eager_start=True)

        await drive.serve(saga)
    os._exit(0)


async def _connect(address: str) -> Client:
    """Connect as soon as the server is there and knows the namespace."""
    request = RegisterNamespaceRequest(namespace="default", workflow_execution_retention_period=Duration(seconds=86400))
    for _ in range(PATIENCE_S):
        with suppress(RPCError, RuntimeError):  # the latter: nobody listens yet
            client = await Client.connect(address)
            with suppress(RPCError):  # another process may have registered it
                await client.workflow_service.register_namespace(request)
            await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace="default"))
            return client
        await asyncio.sleep(1)
    raise TimeoutError("no Temporal server")


def _worker(client: Client, queue: str, slots: int) -> Worker:
    return Worker(
        client,
        task_queue=queue,
        workflows=[IssuePassword, IssuePasswordLocally],
        activities=[generate, mail],
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_concurrent_workflow_tasks=slots,
        max_concurrent_activities=slots,
        max_concurrent_local_activities=slots,
        max_cached_workflows=2000,
    )


if __name__ == "__main__":
    address, url, queue, slots, kind = sys.argv[1:]
    asyncio.run(main(address, url, queue, int(slots), kind))
