/** The server itself: presets, versions, costs, health. */
import { Type } from 'typebox';
import { closed, name, oneOf, pageOf, ref } from './reference.ts';

export const PresetSummary = name(
  closed(
    { name: Type.String({ examples: ['vhost-net'] }), summary: Type.String({ examples: ['Two guests on vhost-net'] }) },
    { $id: 'PresetSummary', description: 'A ready topology document.' },
  ),
);
export const PresetPage = pageOf(PresetSummary, 'PresetPage');

export const VersionSchema = name(
  closed(
    {
      version: Type.String({ examples: ['0.1.0'] }),
      node: Type.String({ examples: ['24.21.0'] }),
      api: Type.String({ examples: ['v1'] }),
    },
    { $id: 'Version', description: 'What this server is.' },
  ),
);

export const CostSchema = name(
  closed(
    {
      name: Type.String({ examples: ['vm_exit_direct'] }),
      unit: Type.String({ examples: ['ns'] }),
      default: Type.Number({ examples: [450] }),
      range: Type.Array(Type.Number(), {
        minItems: 2,
        maxItems: 2,
        description: 'Plausible values.',
        examples: [[250, 700]],
      }),
      basis: oneOf(['published', 'derived', 'no source'], {
        description: 'How good the figure is.',
        examples: ['published'],
      }),
      source: Type.String({ examples: ['SplitX (WIOV 2011)'] }),
      text: Type.String({ examples: ['world switch alone'] }),
      scales: Type.Boolean({
        description: 'It is time of a CPU, which goes down as its clock goes up.',
        examples: [true],
      }),
    },
    { $id: 'Cost', description: 'What one primitive takes in virtual time.' },
  ),
);
export const CostPage = name(
  closed(
    { items: Type.Array(ref(CostSchema)), next: Type.Null({ examples: [null] }) },
    { $id: 'CostPage', description: 'The cost table.' },
  ),
);

export const HealthSchema = name(
  closed(
    { status: oneOf(['ok', 'starting', 'stopping'], { examples: ['ok'] }) },
    { $id: 'Health', description: 'Health of this server.' },
  ),
);
