# For the end of the application's Dockerfile. Build the image once: etc/docker/Dockerfile of litestream-ts.
COPY --from=litestream-ts /opt/litestream /opt/litestream
ENV PATH=/opt/litestream/bin:$PATH
COPY litestream.yml /etc/litestream.yml
# Restores what is missing, then runs the application beside replication.
# Leave it time to store the last changes: docker stop --time 20
CMD litestream restore -if-db-not-exists -if-replica-exists /app/data/app.db \
 && exec litestream replicate -exec 'node server.js'
