/**
 * The topology document as the API publishes it. Its fields, units and defaults are the lab's; here only what has a
 * default is made optional, because that is how users write it (the lab checks bodies itself, all faults at once).
 */
import { type TSchema, Type } from 'typebox';
import { TopologyDocument } from '../../lab/document-schema.ts';
import { name, withDefaults } from './reference.ts';

export const TopologyDocumentSchema = name(Type.Unsafe<TopologyDocument>(withDefaults(TopologyDocument) as TSchema));
