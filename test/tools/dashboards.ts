/** A dashboard as JSON, as far as the tests look into it, and what Grafana would ask Prometheus. */

export interface DataSourceRef {
  readonly type: string;
  readonly uid: string;
}
export interface Target {
  readonly refId: string;
  readonly expr: string;
  readonly instant?: boolean;
  readonly range?: boolean;
  readonly exemplar?: boolean;
  readonly format?: string;
  readonly legendFormat?: string;
  readonly datasource?: DataSourceRef;
}
export interface Override {
  readonly matcher: { readonly id: string; readonly options: string };
  readonly properties: readonly { readonly id: string; readonly value: unknown }[];
}
export interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly description?: string;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly datasource?: DataSourceRef;
  readonly targets: readonly Target[];
  readonly transformations?: readonly { readonly id: string; readonly options: Record<string, unknown> }[];
  readonly options?: { readonly sortBy?: readonly { readonly displayName: string }[] };
  readonly fieldConfig: {
    readonly defaults: {
      readonly unit?: string;
      readonly links?: readonly { readonly title: string; readonly url: string; readonly targetBlank: boolean }[];
    };
    readonly overrides: readonly Override[];
  };
}
export interface Variable {
  readonly name: string;
  readonly type: string;
  readonly label?: string;
  readonly query?: string | { readonly query: string };
  readonly multi?: boolean;
  readonly includeAll?: boolean;
  readonly allValue?: string;
  readonly datasource?: DataSourceRef;
}
export interface Annotation {
  readonly name: string;
  readonly enable: boolean;
  readonly iconColor: string;
  readonly datasource: DataSourceRef;
  readonly titleFormat?: string;
  readonly target?: Target;
}
export interface Dashboard {
  readonly uid: string;
  readonly title: string;
  readonly tags: readonly string[];
  readonly editable: boolean;
  readonly schemaVersion: number;
  readonly panels: readonly Panel[];
  readonly templating: { readonly list: readonly Variable[] };
  readonly annotations: { readonly list: readonly Annotation[] };
  readonly links: readonly {
    readonly type: string;
    readonly tags: readonly string[];
    readonly includeVars: boolean;
    readonly keepTime: boolean;
  }[];
}

/** The panels without the rows that they stand in. */
export const panelsOf = (dashboard: Dashboard): Panel[] => dashboard.panels.filter((panel) => panel.type !== 'row');

export interface Query {
  readonly panel: Panel;
  readonly target: Target;
  readonly expression: string;
  /** Says in a failure which query it was. */
  readonly name: string;
}
/** Every query of a dashboard, with its panel. */
export function queriesOf(dashboard: Dashboard): Query[] {
  return panelsOf(dashboard).flatMap((panel) =>
    panel.targets.map((target) => ({
      panel,
      target,
      expression: target.expr,
      name: `${dashboard.title} / ${panel.title} ${target.refId}`,
    })),
  );
}

/** The variables whose values Grafana asks Prometheus for. */
export const queryVariables = (dashboard: Dashboard): Variable[] =>
  dashboard.templating.list.filter((variable) => variable.type === 'query');

/** Metric selector and label of `label_values(metric{…}, label)`. */
export function labelValuesOf(variable: Variable): { selector: string; label: string } {
  const text = typeof variable.query === 'object' ? variable.query.query : (variable.query ?? '');
  const found = /^label_values\((.+),\s*(\w+)\)$/.exec(text);
  if (found?.[1] === undefined || found[2] === undefined) throw new Error(`variable ${variable.name}: ${text}`);
  return { selector: found[1], label: found[2] };
}

/** One value as Grafana's Prometheus data source puts it between quotes, to be matched by =~. */
const escaped = (value: string): string => value.replace(/\\/g, '\\\\\\\\').replace(/[$^*{}[\]'+?.()|]/g, '\\\\$&');

/** What Grafana fills in for chosen values of a multi-value variable: one alone, or alternatives. */
export const chosen = (...values: readonly string[]): string =>
  values.length === 1 ? escaped(values[0] ?? '') : `(${values.map(escaped).join('|')})`;

/** An expression with Grafana's variables filled in as Grafana would. */
export function substitute(expression: string, values: Readonly<Record<string, string>>): string {
  return expression.replace(/\$\{?(\w+)\}?/g, (whole, name: string) => {
    const value = values[name];
    if (value === undefined) throw new Error(`no value for ${whole}`);
    return value;
  });
}

/** A data link with what was clicked on filled in; null where the labels lack one that it names. */
export function followed(url: string, labels: Readonly<Record<string, string>>): string | null {
  let complete = true;
  const path = url
    .replace('$' + '{ringside}', '')
    .replace(/\$\{__(?:field\.labels|data\.fields)\.(\w+)\}/g, (_, name) => {
      const value = labels[name as string];
      if (value === undefined) complete = false;
      return value ?? '';
    });
  return complete ? path : null;
}
