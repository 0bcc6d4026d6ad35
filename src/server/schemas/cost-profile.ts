/** Cost profiles: what primitives cost on one kind of host. */
import { Type } from 'typebox';
import { CostProfileRequest as request } from '../../lab/cost-profile-document.ts';
import { PROFILE_PATTERN } from '../../lab/units.ts';
import { closed, name, oneOf, orNull, pageOf, ref } from './reference.ts';
import { CostSchema } from './server.ts';

export const CostProfileRequest = name(request);
export const CostProfilePath = closed({
  profile: Type.String({ pattern: PROFILE_PATTERN, description: 'Name of the profile.', examples: ['haswell-2.4'] }),
});

const facts = {
  name: Type.String({ examples: ['haswell-2.4'] }),
  origin: oneOf(['shipped', 'user'], { description: '`shipped` ones never change.', examples: ['shipped'] }),
  description: Type.String({ examples: ['The defaults of the cost table.'] }),
  cpu: Type.String({ description: 'The processor that it stands for.', examples: ['Xeon E5-1650 v4, 3.6 GHz'] }),
  clockGhz: Type.Number({ description: 'Clock of its cores, GHz.', examples: [2.4] }),
  base: orNull(Type.String(), {
    description: 'The profile that it was made from; null: the cost table itself.',
    examples: [null],
  }),
  baseOf: Type.Array(Type.String({ examples: ['our-new-hosts'] }), {
    description: 'Profiles that are built on it. While there are any, only its description changes.',
  }),
  hash: Type.String({
    description: 'Of all its costs: what results, captures and metrics show where a document overrides none.',
    examples: ['0123456789abcdef'],
  }),
  usedBy: Type.Array(Type.String({ examples: ['t1'] }), {
    description: 'Topologies that name it. While there are any, its costs stay as they are.',
  }),
};
export const CostProfileSummary = name(
  closed(facts, { $id: 'CostProfileSummary', description: 'A cost profile without its costs.' }),
);
export const CostProfilePage = pageOf(CostProfileSummary, 'CostProfilePage');

const ProfileCost = name(
  closed(
    {
      ...CostSchema.properties,
      value: Type.Number({ description: "In this profile, in the cost's unit.", examples: [450] }),
    },
    {
      $id: 'ProfileCost',
      description:
        "One primitive in a profile; default, range and source are those of the profile's base at its clock.",
    },
  ),
);
export const CostProfileSchema = name(
  closed(
    {
      ...facts,
      document: orNull(ref(CostProfileRequest), {
        description: 'What a user has put; null of those that come with Ringside.',
      }),
      costs: Type.Array(ref(ProfileCost), { description: 'Every cost of the table.' }),
    },
    { $id: 'CostProfile', description: 'A cost profile: every primitive with value, plausible range and source.' },
  ),
);
