/** /v1/topologies: documents that become running worlds. */
import type { FastifyReply } from 'fastify';
import { Type } from 'typebox';
import type { HostedTopology } from '../hosted-topology.ts';
import { cursorKey, cursorOf } from '../pages.ts';
import { preconditionOf } from '../preconditions.ts';
import { invalid, Problem } from '../problem.ts';
import { media, problems } from '../responses.ts';
import { PageQuery, TopologyPath } from '../schemas/common.ts';
import { ref } from '../schemas/reference.ts';
import { TopologyPage, TopologySchema } from '../schemas/topology.ts';
import { TopologyDocumentSchema } from '../schemas/topology-document.ts';
import type { App, Services } from '../services.ts';
import { addTextParsers } from '../topology-body.ts';

const JOURNAL_SHOWN = 1000;

const documentBody = {
  content: {
    'application/json': { schema: ref(TopologyDocumentSchema) },
    'application/yaml': { schema: ref(TopologyDocumentSchema) },
  },
};
const etag = { etag: Type.String({ description: 'Version of the document, for If-Match.', examples: ['"r1"'] }) };
const location = {
  location: Type.String({ description: 'Address of the topology.', examples: ['/v1/topologies/t1'] }),
};
const conditions = Type.Object({
  'if-match': Type.Optional(Type.String({ description: 'Only if the topology has this ETag.', examples: ['"r1"'] })),
  'if-none-match': Type.Optional(
    Type.String({ description: '`*`: only if there is no such topology.', examples: ['*'] }),
  ),
});
const changed = (description: string, headers: object) => ({
  description,
  headers,
  content: { 'application/json': { schema: ref(TopologySchema) } },
});

export function addTopologyRoutes(app: App, { registry }: Services): void {
  addTextParsers(app);

  app.get(
    '/v1/topologies',
    {
      schema: {
        operationId: 'listTopologies',
        tags: ['topologies'],
        summary: 'Lists the topologies by name',
        querystring: PageQuery,
        response: { 200: media('A page of topologies.', { 'application/json': ref(TopologyPage) }), ...problems() },
      },
    },
    async (request) => {
      const { limit, cursor } = request.query;
      const found = registry.list(cursorKey(cursor), limit + 1);
      const page = found.slice(0, limit);
      const items = page.map(async (hosted) => {
        const { conservation: _, journal: __, endpoints: ___, effective: ____, ...status } = await hosted.status();
        return { name: hosted.name, ...status };
      });
      const last = page.at(-1);
      return {
        items: await Promise.all(items),
        next: found.length > limit && last !== undefined ? cursorOf(last.name) : null,
      };
    },
  );

  app.post(
    '/v1/topologies',
    {
      schema: {
        operationId: 'createTopology',
        tags: ['topologies'],
        summary: 'Creates a topology under the name in its document',
        body: documentBody,
        response: {
          201: changed('Created.', { ...location, ...etag }),
          ...problems(
            'RINGSIDE_E_SYNTAX',
            'RINGSIDE_E_EXISTS',
            'RINGSIDE_E_TOO_LARGE',
            'RINGSIDE_E_MEDIA_TYPE',
            'RINGSIDE_E_VALIDATION',
            'RINGSIDE_E_LIMIT',
            'RINGSIDE_E_TOO_MANY',
            'RINGSIDE_E_STORAGE',
          ),
        },
      },
    },
    async (request, reply) => {
      const document: unknown = request.body;
      const name = nameIn(document);
      if (name === undefined)
        throw invalid('/name', 'the document has no name', 'a name, or PUT /v1/topologies/{topology}');
      const { hosted } = await registry.put(name, document, (current) => {
        if (current !== undefined) throw new Problem('RINGSIDE_E_EXISTS', `There is a topology '${name}' already`);
      });
      return answer(reply.code(201), hosted, `/v1/topologies/${hosted.name}`);
    },
  );

  app.get(
    '/v1/topologies/:topology',
    {
      schema: {
        operationId: 'getTopology',
        tags: ['topologies'],
        summary: 'Shows a topology and how its world stands',
        params: TopologyPath,
        response: { 200: changed('The topology.', etag), ...problems('RINGSIDE_E_NOT_FOUND') },
      },
    },
    async (request, reply) => answer(reply, registry.get(request.params.topology)),
  );

  app.put(
    '/v1/topologies/:topology',
    {
      schema: {
        operationId: 'putTopology',
        tags: ['topologies'],
        summary: 'Creates or replaces a topology',
        description:
          'Idempotent: an equal document changes nothing, another one rebuilds the world. What clients have made of its databases is gone then; where they have changed them, an equal document rebuilds it, too. A refused document changes nothing.',
        params: TopologyPath,
        headers: conditions,
        body: documentBody,
        response: {
          200: changed('Replaced, or equal to what is running.', etag),
          201: changed('Created.', { ...location, ...etag }),
          ...problems(
            'RINGSIDE_E_SYNTAX',
            'RINGSIDE_E_PRECONDITION',
            'RINGSIDE_E_TOO_LARGE',
            'RINGSIDE_E_MEDIA_TYPE',
            'RINGSIDE_E_VALIDATION',
            'RINGSIDE_E_LIMIT',
            'RINGSIDE_E_TOO_MANY',
            'RINGSIDE_E_STORAGE',
          ),
        },
      },
    },
    async (request, reply) => {
      const document: unknown = request.body;
      const { hosted, created } = await registry.put(request.params.topology, document, preconditionOf(request));
      return created ? answer(reply.code(201), hosted, `/v1/topologies/${hosted.name}`) : answer(reply, hosted);
    },
  );

  app.delete(
    '/v1/topologies/:topology',
    {
      schema: {
        operationId: 'deleteTopology',
        tags: ['topologies'],
        summary: 'Deletes a topology',
        params: TopologyPath,
        headers: conditions,
        response: {
          204: Type.Null({ description: 'Deleted.' }),
          ...problems('RINGSIDE_E_NOT_FOUND', 'RINGSIDE_E_PRECONDITION', 'RINGSIDE_E_STORAGE'),
        },
      },
    },
    async (request, reply) => {
      await registry.remove(request.params.topology, preconditionOf(request));
      return reply.code(204).send(null);
    },
  );

  app.post(
    '/v1/topologies/:topology/restart',
    {
      schema: {
        operationId: 'restartTopology',
        tags: ['topologies'],
        summary: 'Builds the world anew from its document and seed',
        description:
          'Traffic and recordings of the old world are gone, and OpenFlow flows; what clients have made of its databases stays.',
        params: TopologyPath,
        response: {
          200: changed('Rebuilt.', etag),
          ...problems('RINGSIDE_E_NOT_FOUND', 'RINGSIDE_E_WORLD_FAILED', 'RINGSIDE_E_LIMIT'),
        },
      },
    },
    async (request, reply) => answer(reply, await registry.restart(request.params.topology)),
  );
}

/** A name that is no text is left to the lab's check. */
function nameIn(document: unknown): string | undefined {
  if (typeof document !== 'object' || document === null || !('name' in document)) return undefined;
  return typeof document.name === 'string' ? document.name : '';
}

async function answer(reply: FastifyReply, hosted: HostedTopology, address?: string): Promise<FastifyReply> {
  const status = await hosted.status();
  if (address !== undefined) reply.header('location', address);
  return reply.header('etag', hosted.etag).send({
    name: hosted.name,
    ...status,
    journal: status.journal.slice(-JOURNAL_SHOWN),
    document: hosted.document,
  });
}
