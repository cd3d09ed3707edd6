// PM2: pm2 start ecosystem.config.cjs. The application starts after the restore of what is missing; litestream runs
// beside it, once, however many instances the application has.
module.exports = {
  apps: [
    {
      name: 'litestream',
      script: 'node_modules/.bin/litestream',
      args: 'replicate -config litestream.yml',
      interpreter: 'none',
      exec_mode: 'fork',
      instances: 1,
      // The last changes are stored before it ends: longer than shutdown-timeout.
      kill_timeout: 20_000,
    },
    {
      name: 'app',
      script: '/bin/sh',
      args: [
        '-c',
        'npx litestream restore -config litestream.yml -if-db-not-exists -if-replica-exists data/app.db && exec node server.js',
      ],
      interpreter: 'none',
      exec_mode: 'fork',
    },
  ],
};
