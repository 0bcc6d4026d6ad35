/** /v1/cost-profiles: what virtual times are computed from, one profile for each kind of host. */
import { Type } from 'typebox';
import type { CostProfiles, KnownProfile } from '../cost-profiles.ts';
import { pageOfList } from '../pages.ts';
import { BODY, media, problems } from '../responses.ts';
import { PageQuery } from '../schemas/common.ts';
import { CostProfilePage, CostProfilePath, CostProfileRequest, CostProfileSchema } from '../schemas/cost-profile.ts';
import { ref } from '../schemas/reference.ts';
import type { App, Services } from '../services.ts';
import { addTextParsers } from '../topology-body.ts';

const documentBody = {
  content: {
    'application/json': { schema: ref(CostProfileRequest) },
    'application/yaml': { schema: ref(CostProfileRequest) },
  },
};
const shown = media('The profile.', { 'application/json': ref(CostProfileSchema) });

export function addCostProfileRoutes(app: App, { profiles }: Services): void {
  addTextParsers(app);

  app.get(
    '/v1/cost-profiles',
    {
      schema: {
        operationId: 'listCostProfiles',
        tags: ['server'],
        summary: 'Lists the cost profiles: the shipped ones, then those of users by name',
        querystring: PageQuery,
        response: { 200: media('A page of profiles.', { 'application/json': ref(CostProfilePage) }), ...problems() },
      },
    },
    async (request) =>
      pageOfList(
        profiles.list().map((profile) => factsOf(profiles, profile)),
        request.query,
      ),
  );

  app.get(
    '/v1/cost-profiles/:profile',
    {
      schema: {
        operationId: 'getCostProfile',
        tags: ['server'],
        summary: 'Shows a cost profile with every cost, its plausible range and its source',
        params: CostProfilePath,
        response: { 200: shown, ...problems('RINGSIDE_E_NOT_FOUND') },
      },
    },
    async (request) => documentOf(profiles, profiles.get(request.params.profile)),
  );

  app.put(
    '/v1/cost-profiles/:profile',
    {
      schema: {
        operationId: 'putCostProfile',
        tags: ['server'],
        summary: 'Creates or replaces a cost profile',
        description:
          'JSON or YAML. Costs outside of their plausible range are refused unless the document says `"outOfRange": true`. A profile that a topology names cannot get other costs: worlds keep what they were built with, also over a restart of the server. A profile that others are built on (`baseOf`) stays as it is but for its `description`: no other profile moves.',
        params: CostProfilePath,
        body: documentBody,
        response: {
          200: media('Replaced, or equal to what there was.', { 'application/json': ref(CostProfileSchema) }),
          201: {
            description: 'Created.',
            headers: {
              location: Type.String({ description: 'Its address.', examples: ['/v1/cost-profiles/our-hosts'] }),
            },
            content: { 'application/json': { schema: ref(CostProfileSchema) } },
          },
          ...problems(...BODY, 'RINGSIDE_E_CONFLICT', 'RINGSIDE_E_TOO_MANY', 'RINGSIDE_E_STORAGE'),
        },
      },
    },
    async (request, reply) => {
      const { profile: name } = request.params;
      const { profile, created } = profiles.put(name, request.body);
      if (created) reply.code(201).header('location', `/v1/cost-profiles/${name}`);
      return reply.send(documentOf(profiles, profile));
    },
  );

  app.delete(
    '/v1/cost-profiles/:profile',
    {
      schema: {
        operationId: 'deleteCostProfile',
        tags: ['server'],
        summary: 'Deletes a cost profile that no topology names and that no other is built on',
        params: CostProfilePath,
        response: {
          204: { description: 'Deleted.' },
          ...problems('RINGSIDE_E_NOT_FOUND', 'RINGSIDE_E_CONFLICT', 'RINGSIDE_E_STORAGE'),
        },
      },
    },
    async (request, reply) => {
      profiles.remove(request.params.profile);
      return reply.code(204).send();
    },
  );
}

function factsOf(profiles: CostProfiles, { sheet, hash, document }: KnownProfile) {
  const { name, description, cpu, clockGhz, base } = sheet;
  const origin = document === null ? ('shipped' as const) : ('user' as const);
  const baseOf = profiles.baseOf(name);
  return { name, origin, description, cpu, clockGhz, base, baseOf, hash, usedBy: [...profiles.usersOf(name)] };
}
function documentOf(profiles: CostProfiles, profile: KnownProfile) {
  const costs = profile.sheet.rows.map((row) => ({ ...row, range: [...row.range] }));
  return { ...factsOf(profiles, profile), document: profile.document, costs };
}
