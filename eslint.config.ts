import { defineConfig } from 'eslint/config';
import tseslint from 'typescript-eslint';

/**
 * The layers of docs/architecture.md. Each folder may import only what stands to its right in the rule; the
 * reason is the message, so that a failing lint explains itself.
 */
const layers: Record<string, { forbid: string[]; reason: string }> = {
  base: {
    forbid: ['sqlite', 'format', 'storage', 'engine', 'config', 'control', 'web', 'library', 'cmd'],
    reason: 'base/ knows nothing of the product: everything else stands on it.',
  },
  sqlite: {
    forbid: ['format', 'storage', 'engine', 'config', 'control', 'web', 'library', 'cmd'],
    reason: 'sqlite/ describes what SQLite puts on disk and must not know what we make of it.',
  },
  format: {
    forbid: ['storage', 'engine', 'config', 'control', 'web', 'library', 'cmd'],
    reason: 'format/ is the byte layout of a replica: pure, usable without a store or a database.',
  },
  storage: {
    forbid: ['sqlite', 'format', 'engine', 'config', 'control', 'web', 'library', 'cmd'],
    reason: 'A driver is an object store: it must not know generations, WAL or the engine.',
  },
  engine: {
    forbid: ['config', 'control', 'web', 'library', 'cmd'],
    reason: 'The engine takes resolved options; it never reads a config file and never prints.',
  },
  config: {
    forbid: ['control', 'web', 'library', 'cmd'],
    reason: 'Config resolves to engine options; commands and pages use it, not the reverse.',
  },
  control: {
    forbid: ['web', 'library', 'cmd'],
    reason: 'control/ answers and asks about a running replication; it shows nothing.',
  },
  web: {
    forbid: ['library', 'cmd'],
    reason: 'Pages show what control/ knows; applications and commands use them, not the reverse.',
  },
  library: { forbid: ['cmd'], reason: 'Nobody imports cmd/: commands are the outermost layer.' },
};

const onlyDrivers = ['better-sqlite3', 'node:sqlite'].map((name) => ({
  name,
  message: 'Only the drivers in sqlite/ name it; sqlite/connection.ts opens connections.',
}));

/** The options of no-restricted-imports for one layer. */
const restricted = (name: string, forbid: string[], reason: string) => {
  const patterns = forbid.map((layer) => ({ regex: `^(\\.\\./)+${layer}/`, message: reason }));
  const drivers =
    name === 'storage'
      ? []
      : [
          {
            regex:
              'storage/(?!object-store|registry|store-config|retrying-store|counting-store|encryption/keys)',
            message: 'Only storage/registry.ts names drivers.',
          },
        ];
  return [...patterns, ...drivers];
};

export default defineConfig(
  { ignores: ['dist/**', 'node_modules/**', 'coverage/**', '.cache/**'] },
  ...tseslint.configs.strictTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true } },
    rules: {
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
      '@typescript-eslint/consistent-type-imports': 'error',
      'no-console': 'error',
    },
  },
  {
    files: ['src/**/*.ts'],
    rules: {
      'max-lines': ['error', { max: 400, skipBlankLines: true, skipComments: true }],
      'max-lines-per-function': ['error', { max: 70, skipBlankLines: true, skipComments: true }],
      'no-restricted-imports': ['error', { paths: onlyDrivers }],
    },
  },
  ...Object.entries(layers).map(([name, { forbid, reason }]) => ({
    files: [`src/${name}/**/*.ts`],
    rules: {
      'no-restricted-imports': [
        'error',
        { paths: onlyDrivers, patterns: restricted(name, forbid, reason) },
      ] as ['error', object],
    },
  })),
  {
    files: ['src/sqlite/better-sqlite3-driver.ts', 'src/storage/registry.ts'],
    rules: { 'no-restricted-imports': 'off' },
  },
  {
    // Scripts that run without a build: worker processes of the tests, the benchmark.
    files: ['**/*.mjs', '**/*.cjs'],
    extends: [tseslint.configs.disableTypeChecked],
    rules: { 'no-console': 'off', '@typescript-eslint/explicit-module-boundary-types': 'off' },
  },
  {
    files: ['test/**/*.ts', 'bench/**/*.ts', 'demo/**/*.ts'],
    rules: {
      'no-console': 'off',
      '@typescript-eslint/no-non-null-assertion': 'off',
    },
  },
);
