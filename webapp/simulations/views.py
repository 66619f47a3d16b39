"""/v1/simulations: try out invoices and prices, and keep what was tried."""

from typing import Any

from flask import Blueprint, Response, g
from sqlalchemy.orm import Session

from metering.billing import simulations
from metering.billing.models import Simulation
from metering.database import unit_of_work
from pricing import InvoiceSimulator, comparison
from webapp import auth, cursor, wire
from webapp.catalog.schemas import TenantQuerySchema
from webapp.endpoint import Contract, endpoint
from webapp.extensions import db
from webapp.simulations import repetition
from webapp.simulations.schemas import (
    ComparisonAnswerSchema,
    ComparisonSchema,
    CopySchema,
    InvoiceAnswerSchema,
    NewSimulationSchema,
    ScenarioSchema,
    SimulationChangesSchema,
    SimulationsAnswerSchema,
    SimulationSchema,
    SimulationsQuerySchema,
)

blueprint = Blueprint("simulations", __name__, url_prefix="/v1/simulations")

_NAMED = {"Idempotency-Key": "a repetition is answered with what the first request made"}


@blueprint.post("/run")
@endpoint(
    Contract(
        summary="Work out an invoice",
        scope="simulations:read",
        body=ScenarioSchema,
        answer=InvoiceAnswerSchema,
        statuses=(400, 401, 403, 413, 415, 422),
        tag="Simulations",
        needs_tenant=False,
    )
)
def run(body: dict[str, Any]) -> Response:
    """What a customer would be billed for this usage at these prices, line by line as Stripe prints
    it. Nothing is stored and nothing is billed."""
    return wire.answer(InvoiceSimulator().simulate(body))


@blueprint.post("/compare")
@endpoint(
    Contract(
        summary="Compare up to four prices",
        scope="simulations:read",
        body=ComparisonSchema,
        answer=ComparisonAnswerSchema,
        statuses=(400, 401, 403, 413, 415, 422),
        tag="Simulations",
        needs_tenant=False,
    )
)
def compare(body: dict[str, Any]) -> Response:
    """Each price's total at the quantities asked for, its cost curve, and the quantities from which
    on one undercuts another."""
    return wire.answer(comparison.compare(body))


@blueprint.post("")
@endpoint(
    Contract(
        summary="Save a scenario",
        scope="simulations:write",
        body=NewSimulationSchema,
        answer=SimulationSchema,
        answer_status=201,
        statuses=(400, 401, 403, 404, 409, 413, 415, 422),
        tag="Simulations",
        headers=_NAMED,
    )
)
def save(tenant_id: str, body: dict[str, Any]) -> Response:
    """Keep a scenario under a name; its numbers are kept digit for digit."""
    with unit_of_work(db.session()) as session:
        auth.ensure_tenant(session, tenant_id)
        made = repetition.claim(session, tenant_id, "save-simulation", body, now=g.now)
        if made.is_new:
            simulations.save(
                session,
                tenant_id,
                name=body["name"],
                kind=body["kind"],
                document=body["document"],
                created_by=auth.principal().actor,
                now=g.now,
                simulation_id=made.id,
            )
        answer = _simulation(session, tenant_id, made.id)
    return wire.answer(answer, 201)


@blueprint.get("")
@endpoint(
    Contract(
        summary="List saved scenarios",
        scope="simulations:read",
        query=SimulationsQuerySchema,
        answer=SimulationsAnswerSchema,
        statuses=(401, 403, 422),
        tag="Simulations",
    )
)
def list_simulations(tenant_id: str, query: dict[str, Any]) -> Response:
    """The last touched first, without their documents."""
    after = cursor.read_place(query["cursor"]) if "cursor" in query else None
    limit = query["limit"]
    found = simulations.listed(
        db.session(), tenant_id, after=after, limit=limit + 1, kind=query.get("kind")
    )
    page, last = found[:limit], found[limit - 1] if len(found) > limit else None
    return wire.answer(
        {
            "simulations": [_listed(each) for each in page],
            "nextCursor": cursor.write((last.updated_at, last.id)) if last else None,
        }
    )


@blueprint.get("/<simulation_id>")
@endpoint(
    Contract(
        summary="Read a saved scenario",
        scope="simulations:read",
        query=TenantQuerySchema,
        answer=SimulationSchema,
        statuses=(401, 403, 404, 422),
        tag="Simulations",
    )
)
def read(simulation_id: str, tenant_id: str, query: dict[str, Any]) -> Response:
    """The scenario with its document."""
    return wire.answer(_simulation(db.session(), tenant_id, checked(simulation_id)))


@blueprint.patch("/<simulation_id>")
@endpoint(
    Contract(
        summary="Rename or replace a saved scenario",
        scope="simulations:write",
        body=SimulationChangesSchema,
        answer=SimulationSchema,
        statuses=(400, 401, 403, 404, 413, 415, 422),
        tag="Simulations",
    )
)
def change(simulation_id: str, tenant_id: str, body: dict[str, Any]) -> Response:
    """Put another name or document in place of the present one."""
    with unit_of_work(db.session()) as session:
        simulations.replace(
            session,
            tenant_id,
            checked(simulation_id),
            name=body.get("name"),
            document=body.get("document"),
            now=g.now,
        )
        answer = _simulation(session, tenant_id, simulation_id)
    return wire.answer(answer)


@blueprint.delete("/<simulation_id>")
@endpoint(
    Contract(
        summary="Delete a saved scenario",
        scope="simulations:write",
        query=TenantQuerySchema,
        answer_status=204,
        statuses=(401, 403, 404, 422),
        tag="Simulations",
    )
)
def delete(simulation_id: str, tenant_id: str, query: dict[str, Any]) -> Response:
    """For good."""
    with unit_of_work(db.session()) as session:
        simulations.delete(session, tenant_id, checked(simulation_id))
    return Response(status=204)


@blueprint.post("/<simulation_id>/duplicate")
@endpoint(
    Contract(
        summary="Duplicate a saved scenario",
        scope="simulations:write",
        body=CopySchema,
        answer=SimulationSchema,
        answer_status=201,
        statuses=(400, 401, 403, 404, 409, 413, 415, 422),
        tag="Simulations",
        headers=_NAMED,
    )
)
def duplicate(simulation_id: str, tenant_id: str, body: dict[str, Any]) -> Response:
    """The same document under a new id."""
    checked(simulation_id)
    with unit_of_work(db.session()) as session:
        asked = {**body, "of": simulation_id}
        made = repetition.claim(session, tenant_id, "duplicate-simulation", asked, now=g.now)
        if made.is_new:
            simulations.duplicate(
                session,
                tenant_id,
                simulation_id,
                name=body.get("name"),
                created_by=auth.principal().actor,
                now=g.now,
                copy_id=made.id,
            )
        answer = _simulation(session, tenant_id, made.id)
    return wire.answer(answer, 201)


def checked(given: str) -> str:
    """An id that the database can be asked for."""
    if len(given) > 64 or "\x00" in given:
        raise wire.invalid_field("id", "is not one of ours")
    return given


def _simulation(session: Session, tenant_id: str, simulation_id: str) -> dict[str, Any]:
    saved = simulations.get(session, tenant_id, simulation_id)
    session.refresh(saved)
    return _listed(saved) | {"document": wire.RawJson(saved.document)}


def _listed(saved: Simulation) -> dict[str, Any]:
    return {
        "id": saved.id,
        "name": saved.name,
        "kind": saved.kind,
        "createdBy": saved.created_by,
        "createdAt": wire.instant(saved.created_at),
        "updatedAt": wire.instant(saved.updated_at),
    }
