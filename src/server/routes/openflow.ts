/** /v1/topologies/{t}/bridges/{b}/flows, groups, meters: what ovs-ofctl would change. Other doors see it at once, and the other way round. */
import type { EngineAnswers, OpenFlowChange } from '../../lab/protocol.ts';
import { BODY, media, problems, WORLD } from '../responses.ts';
import { BridgePath } from '../schemas/common.ts';
import {
  FlowChangesSchema,
  FlowDeleteQuery,
  GroupChangesSchema,
  GroupDeleteQuery,
  GroupsSchema,
  MeterChangesSchema,
  MeterDeleteQuery,
  MetersSchema,
  OpenFlowChangedSchema,
} from '../schemas/openflow.ts';
import { ref } from '../schemas/reference.ts';
import type { App, Services } from '../services.ts';

const refusals = problems(...WORLD);
const changes = problems(...BODY, ...WORLD);
const changed = media('What was changed.', { 'application/json': ref(OpenFlowChangedSchema) });

export function addOpenFlowRoutes(app: App, { registry }: Services): void {
  const read = async (
    { topology, bridge }: { topology: string; bridge: string },
    what: 'groups' | 'meters',
  ): Promise<string[]> => {
    const world = registry.get(topology).livingWorld();
    return [...(await world.call('openflow', { bridge, what, filter: '' })).lines];
  };
  const change = (
    { topology, bridge }: { topology: string; bridge: string },
    what: OpenFlowChange['what'],
    command: OpenFlowChange['command'],
    texts: readonly string[],
    field?: string,
  ): Promise<EngineAnswers['changeOpenflow']> => {
    const world = registry.get(topology).livingWorld();
    return world.call('changeOpenflow', { bridge, change: { what, command, texts, field } });
  };

  app.post(
    '/v1/topologies/:topology/bridges/:bridge/flows',
    {
      schema: {
        operationId: 'changeFlows',
        tags: ['bridges'],
        summary: 'Adds, changes or deletes OpenFlow flows',
        description: 'In the syntax of ovs-ofctl, as one bundle: all of them or none.',
        params: BridgePath,
        body: ref(FlowChangesSchema),
        response: { 200: changed, ...changes },
      },
    },
    async ({ params, body }) => await change(params, 'flows', body.command, body.flows),
  );
  app.delete(
    '/v1/topologies/:topology/bridges/:bridge/flows',
    {
      schema: {
        operationId: 'deleteFlows',
        tags: ['bridges'],
        summary: 'Deletes OpenFlow flows by a match',
        params: BridgePath,
        querystring: FlowDeleteQuery,
        response: { 200: changed, ...refusals },
      },
    },
    async ({ params, query }) =>
      await change(params, 'flows', query.strict ? 'delete_strict' : 'delete', [query.match], '/match'),
  );

  app.get(
    '/v1/topologies/:topology/bridges/:bridge/groups',
    {
      schema: {
        operationId: 'getGroups',
        tags: ['bridges'],
        summary: 'Shows the OpenFlow groups',
        params: BridgePath,
        response: { 200: media('The groups.', { 'application/json': ref(GroupsSchema) }), ...refusals },
      },
    },
    async ({ params }) => ({ groups: await read(params, 'groups') }),
  );
  app.post(
    '/v1/topologies/:topology/bridges/:bridge/groups',
    {
      schema: {
        operationId: 'changeGroups',
        tags: ['bridges'],
        summary: 'Adds, changes or deletes OpenFlow groups',
        description: 'In the syntax of ovs-ofctl: all of them or none. Flows that name a deleted group go with it.',
        params: BridgePath,
        body: ref(GroupChangesSchema),
        response: { 200: changed, ...changes },
      },
    },
    async ({ params, body }) => await change(params, 'groups', body.command, body.groups),
  );
  app.delete(
    '/v1/topologies/:topology/bridges/:bridge/groups',
    {
      schema: {
        operationId: 'deleteGroups',
        tags: ['bridges'],
        summary: 'Deletes OpenFlow groups, and the flows that name them',
        params: BridgePath,
        querystring: GroupDeleteQuery,
        response: { 200: changed, ...refusals },
      },
    },
    async ({ params, query }) => await change(params, 'groups', 'delete', [`group_id=${query.group}`], '/group'),
  );

  app.get(
    '/v1/topologies/:topology/bridges/:bridge/meters',
    {
      schema: {
        operationId: 'getMeters',
        tags: ['bridges'],
        summary: 'Shows the OpenFlow meters',
        params: BridgePath,
        response: { 200: media('The meters.', { 'application/json': ref(MetersSchema) }), ...refusals },
      },
    },
    async ({ params }) => ({ meters: await read(params, 'meters') }),
  );
  app.post(
    '/v1/topologies/:topology/bridges/:bridge/meters',
    {
      schema: {
        operationId: 'changeMeters',
        tags: ['bridges'],
        summary: 'Adds, changes or deletes OpenFlow meters',
        description: 'In the syntax of ovs-ofctl, one after the other: what came before a refused one stands.',
        params: BridgePath,
        body: ref(MeterChangesSchema),
        response: { 200: changed, ...changes },
      },
    },
    async ({ params, body }) => await change(params, 'meters', body.command, body.meters),
  );
  app.delete(
    '/v1/topologies/:topology/bridges/:bridge/meters',
    {
      schema: {
        operationId: 'deleteMeters',
        tags: ['bridges'],
        summary: 'Deletes OpenFlow meters, and the flows that name them',
        params: BridgePath,
        querystring: MeterDeleteQuery,
        response: { 200: changed, ...refusals },
      },
    },
    async ({ params, query }) => await change(params, 'meters', 'delete', [`meter=${query.meter}`], '/meter'),
  );
}
