/** The API document: committed as it is generated, and complete. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { afterEach, test } from 'vitest';
import { openapiText } from '../../src/server/openapi-text.ts';
import { PROBLEMS } from '../../src/server/problem-codes.ts';
import { closeServers, startServer } from './client.ts';

afterEach(closeServers);

const committed = readFileSync(new URL('../../openapi/openapi.json', import.meta.url), 'utf8');

test('openapi/openapi.json is what `npm run openapi` writes', async () => {
  assert.ok((await openapiText()) === committed, 'openapi/openapi.json is out of date: run `npm run openapi`');
});

test('every operation has an id, a tag, a summary, and problems for its 4xx', () => {
  const document = JSON.parse(committed);
  assert.equal(document.openapi, '3.1.0');
  for (const [path, item] of Object.entries<Record<string, Record<string, unknown>>>(document.paths)) {
    for (const [method, operation] of Object.entries(item)) {
      const where = `${method} ${path}`;
      assert.match(String(operation['operationId']), /^[a-z]+[A-Z][A-Za-z]*$/, where);
      assert.equal((operation['tags'] as string[]).length, 1, where);
      assert.ok(operation['summary'], where);
      const responses = operation['responses'] as Record<string, { content?: object }>;
      for (const status of Object.keys(responses).filter((s) => s.startsWith('4'))) {
        assert.deepEqual(Object.keys(responses[status]?.content ?? {}), ['application/problem+json'], where);
      }
    }
  }
  assert.deepEqual(document.components.schemas.Problem.properties.code.enum, Object.keys(PROBLEMS));
  assert.ok(!committed.includes('def-0'));
});

test('the pages for people are served: reference, problems', async () => {
  const server = await startServer();
  const page = async (url: string): Promise<string> => {
    const answer = await server.ringside.app.inject({ url, headers: { host: 'localhost' } });
    assert.equal(answer.statusCode, 200, url);
    assert.match(String(answer.headers['content-type']), /^text\/html/);
    return answer.payload;
  };
  assert.match(await page('/docs'), /swagger-ui/);
  const problems = await page('/docs/problems');
  for (const code of Object.keys(PROBLEMS)) assert.ok(problems.includes(`id="${code}"`), code);
  const head = await server.ringside.app.inject({ method: 'HEAD', url: '/livez', headers: { host: 'localhost' } });
  assert.equal(head.statusCode, 200);
});
