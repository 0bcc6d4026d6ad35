/** Health, version, costs, and the API document. */
import { COSTS } from '../../engine/costs.ts';
import { PROBLEMS } from '../problem-codes.ts';
import { media, problems } from '../responses.ts';
import { ref } from '../schemas/reference.ts';
import { CostPage, HealthSchema, VersionSchema } from '../schemas/server.ts';
import type { App, Services } from '../services.ts';
import { VERSION } from '../version.ts';

/** Where the `type` of every problem document leads. */
const PROBLEM_PAGE =
  '<!doctype html><html lang="en"><title>Ringside: problems</title><h1>Problems</h1>' +
  '<p>Every error answer is a problem document (RFC 9457). Programs test for its <code>code</code>.</p>' +
  '<table><thead><tr><th>Status<th>Code<th>Meaning</thead><tbody>ROWS</tbody></table></html>';

const health = media('Healthy.', { 'application/json': ref(HealthSchema) });

export function addServerRoutes(app: App, { registry, stopping }: Services): void {
  // Who follows the address that the server prints at its start wants to see something.
  app.get('/', { schema: { hide: true } }, async (_request, reply) => reply.redirect('/docs'));

  app.get(
    '/livez',
    {
      schema: {
        operationId: 'getLiveness',
        tags: ['server'],
        summary: 'Answers as long as the process serves requests',
        security: [],
        response: { 200: health, ...problems() },
      },
    },
    async () => ({ status: 'ok' as const }),
  );

  app.get(
    '/readyz',
    {
      schema: {
        operationId: 'getReadiness',
        tags: ['server'],
        summary: 'Answers 200 once the stored topologies have been rebuilt, until the server stops',
        security: [],
        response: {
          200: health,
          503: media('Starting or stopping.', { 'application/json': ref(HealthSchema) }),
          ...problems(),
        },
      },
    },
    async (_request, reply) => {
      if (stopping.begun) return reply.code(503).send({ status: 'stopping' });
      if (!registry.ready) return reply.code(503).send({ status: 'starting' });
      return reply.send({ status: 'ok' });
    },
  );

  app.get(
    '/v1/version',
    {
      schema: {
        operationId: 'getVersion',
        tags: ['server'],
        summary: 'Shows the version',
        response: { 200: media('The version.', { 'application/json': ref(VersionSchema) }), ...problems() },
      },
    },
    async () => ({ version: VERSION, node: process.versions.node, api: 'v1' }),
  );

  app.get(
    '/v1/costs',
    {
      schema: {
        operationId: 'listCosts',
        tags: ['server'],
        summary: 'Lists the cost table with units and sources',
        response: { 200: media('The costs.', { 'application/json': ref(CostPage) }), ...problems() },
      },
    },
    async () => ({ items: COSTS, next: null }),
  );

  app.get('/docs/problems', { schema: { hide: true } }, async (_request, reply) => {
    const rows = Object.entries(PROBLEMS).map(
      ([code, { status, title }]) =>
        `<tr id="${code}"><td>${status}</td><td><code>${code}</code></td><td>${title}</td></tr>`,
    );
    return reply.type('text/html; charset=utf-8').send(PROBLEM_PAGE.replace('ROWS', rows.join('\n')));
  });

  app.get(
    '/openapi.json',
    {
      schema: {
        operationId: 'getOpenapi',
        tags: ['server'],
        summary: 'Shows this API document',
        response: { 200: media('The document.', { 'application/json': { type: 'object' } }), ...problems() },
      },
    },
    async () => app.swagger(),
  );
}
