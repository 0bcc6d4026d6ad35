/** /v1/presets: ready topology documents. */
import { stringify } from 'yaml';
import { PRESETS } from '../../lab/presets.ts';
import { negotiate } from '../negotiation.ts';
import { pageOfList } from '../pages.ts';
import { notFound } from '../problem.ts';
import { media, problems } from '../responses.ts';
import { PageQuery, PresetPath } from '../schemas/common.ts';
import { ref } from '../schemas/reference.ts';
import { PresetPage } from '../schemas/server.ts';
import { TopologyDocumentSchema } from '../schemas/topology-document.ts';
import type { App } from '../services.ts';

export function addPresetRoutes(app: App): void {
  app.get(
    '/v1/presets',
    {
      schema: {
        operationId: 'listPresets',
        tags: ['presets'],
        summary: 'Lists the presets',
        querystring: PageQuery,
        response: { 200: media('A page of presets.', { 'application/json': ref(PresetPage) }), ...problems() },
      },
    },
    async (request) =>
      pageOfList(
        PRESETS.map(({ name, summary }) => ({ name, summary })),
        request.query,
      ),
  );

  app.get(
    '/v1/presets/:preset',
    {
      schema: {
        operationId: 'getPreset',
        tags: ['presets'],
        summary: 'Shows a preset, as PUT /v1/topologies/{topology} takes it',
        params: PresetPath,
        response: {
          200: media('The document.', {
            'application/json': ref(TopologyDocumentSchema),
            'application/yaml': ref(TopologyDocumentSchema),
          }),
          ...problems('RINGSIDE_E_NOT_FOUND', 'RINGSIDE_E_NOT_ACCEPTABLE'),
        },
      },
    },
    async (request, reply) => {
      const preset = PRESETS.find((p) => p.name === request.params.preset);
      if (preset === undefined) throw notFound(`There is no preset '${request.params.preset}'`);
      const type = negotiate(request, ['application/json', 'application/yaml']);
      if (type === 'application/yaml') return reply.type(type).send(stringify(preset.document));
      return reply.type(type).send(preset.document);
    },
  );
}
