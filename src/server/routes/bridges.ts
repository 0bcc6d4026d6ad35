/** /v1/topologies/{t}/bridges: what ovs-vsctl, ovs-ofctl and ovs-appctl would show. */
import type { BridgeState } from '../../lab/protocol.ts';
import { negotiate } from '../negotiation.ts';
import { pageOfList } from '../pages.ts';
import { media, problems } from '../responses.ts';
import { BridgePage, BridgeSchema, CachesSchema, FdbPage, FlowsSchema, PortPage } from '../schemas/bridge.ts';
import { BridgePath, PageQuery, TopologyPath } from '../schemas/common.ts';
import { FlowQuery } from '../schemas/openflow.ts';
import { ref } from '../schemas/reference.ts';
import type { App, Services } from '../services.ts';

const refusals = problems('RINGSIDE_E_NOT_FOUND', 'RINGSIDE_E_WORLD_FAILED');

export function addBridgeRoutes(app: App, { registry }: Services): void {
  const bridge = (topology: string, name: string): Promise<BridgeState> =>
    registry.get(topology).livingWorld().call('bridge', { bridge: name });

  app.get(
    '/v1/topologies/:topology/bridges',
    {
      schema: {
        operationId: 'listBridges',
        tags: ['bridges'],
        summary: 'Lists the bridges',
        params: TopologyPath,
        querystring: PageQuery,
        response: { 200: media('A page of bridges.', { 'application/json': ref(BridgePage) }), ...refusals },
      },
    },
    async (request) => {
      const hosted = registry.get(request.params.topology);
      const world = hosted.livingWorld();
      const several = (hosted.topology?.hosts.length ?? 0) > 1;
      // those of the document, and those that ovs-vsctl has added since
      const bridges = await world.call('bridges', {});
      const names = bridges.map(({ host, name }) => (several ? `${host}/${name}` : name));
      const page = pageOfList(names, request.query);
      const items = await Promise.all(page.items.map((name) => world.call('bridge', { bridge: name })));
      return { items, next: page.next };
    },
  );

  app.get(
    '/v1/topologies/:topology/bridges/:bridge',
    {
      schema: {
        operationId: 'getBridge',
        tags: ['bridges'],
        summary: 'Shows a bridge with its ports, FDB, flows and caches',
        params: BridgePath,
        response: { 200: media('The bridge.', { 'application/json': ref(BridgeSchema) }), ...refusals },
      },
    },
    async (request) => await bridge(request.params.topology, request.params.bridge),
  );

  app.get(
    '/v1/topologies/:topology/bridges/:bridge/fdb',
    {
      schema: {
        operationId: 'listFdb',
        tags: ['bridges'],
        summary: 'Lists the learned MAC addresses',
        params: BridgePath,
        querystring: PageQuery,
        response: { 200: media('A page of the FDB.', { 'application/json': ref(FdbPage) }), ...refusals },
      },
    },
    async (request) => pageOfList((await bridge(request.params.topology, request.params.bridge)).fdb, request.query),
  );

  app.get(
    '/v1/topologies/:topology/bridges/:bridge/ports',
    {
      schema: {
        operationId: 'listPorts',
        tags: ['bridges'],
        summary: 'Lists the ports and their counters',
        params: BridgePath,
        querystring: PageQuery,
        response: { 200: media('A page of ports.', { 'application/json': ref(PortPage) }), ...refusals },
      },
    },
    async (request) => pageOfList((await bridge(request.params.topology, request.params.bridge)).ports, request.query),
  );

  app.get(
    '/v1/topologies/:topology/bridges/:bridge/flows',
    {
      schema: {
        operationId: 'getFlows',
        tags: ['bridges'],
        summary: 'Shows the OpenFlow table and the datapath flows',
        description: 'As text: the lines of `ovs-ofctl dump-flows`, those that `filter` names.',
        params: BridgePath,
        querystring: FlowQuery,
        response: {
          200: media('The flows.', { 'application/json': ref(FlowsSchema), 'text/plain': { type: 'string' } }),
          ...problems(
            'RINGSIDE_E_NOT_FOUND',
            'RINGSIDE_E_NOT_ACCEPTABLE',
            'RINGSIDE_E_CONFLICT',
            'RINGSIDE_E_WORLD_FAILED',
          ),
        },
      },
    },
    async (request, reply) => {
      const { topology, bridge: name } = request.params;
      const { filter } = request.query;
      if (filter === undefined && negotiate(request, ['application/json', 'text/plain']) === 'application/json') {
        const { flows, datapathFlows } = await bridge(topology, name);
        return reply.send({ openflow: flows, datapath: datapathFlows });
      }
      const world = registry.get(topology).livingWorld();
      const { lines } = await world.call('openflow', { bridge: name, what: 'flows', filter: filter ?? '' });
      return reply.type('text/plain; charset=utf-8').send(lines.map((line) => `${line}\n`).join(''));
    },
  );

  app.get(
    '/v1/topologies/:topology/bridges/:bridge/caches',
    {
      schema: {
        operationId: 'getCaches',
        tags: ['bridges'],
        summary: 'Shows the cache statistics of the datapath',
        params: BridgePath,
        response: { 200: media('The caches.', { 'application/json': ref(CachesSchema) }), ...refusals },
      },
    },
    async (request) => {
      const { topology, bridge: name } = request.params;
      const { caches, datapath } = await bridge(topology, name);
      if (datapath !== 'netdev') return { caches, threads: [] };
      const world = registry.get(topology).livingWorld();
      return { caches, threads: [...(await world.call('pmdCaches', { bridge: name }))] };
    },
  );
}
