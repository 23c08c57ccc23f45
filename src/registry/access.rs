//! What a request is about to do, in the words of Docker's token specification.

use crate::reference::RepositoryName;

/// The rights that a request needs.
#[derive(Clone, Debug)]
pub(super) struct Access {
    repository: Option<RepositoryName>,
    scopes: Vec<String>,
}

impl Access {
    /// The registry itself, no repository.
    pub(super) fn registry() -> Self {
        Self { repository: None, scopes: Vec::new() }
    }

    /// To list all repositories (Docker's token specification, resource type `registry`).
    pub(super) fn catalog() -> Self {
        Self { repository: None, scopes: vec!["registry:catalog:*".to_owned()] }
    }

    /// To read.
    pub(super) fn pull(repository: &RepositoryName) -> Self {
        Self::of(repository, "pull")
    }

    /// To write, and to read what is there already.
    pub(super) fn push(repository: &RepositoryName) -> Self {
        Self::of(repository, "pull,push")
    }

    /// To give an upload up, which some registries count as deletion.
    pub(super) fn cancel(repository: &RepositoryName) -> Self {
        Self::of(repository, "pull,push,delete")
    }

    /// To write what another repository holds.
    pub(super) fn mount(repository: &RepositoryName, from: &RepositoryName) -> Self {
        let mut access = Self::push(repository);
        access.scopes.push(format!("repository:{from}:pull"));
        access
    }

    fn of(repository: &RepositoryName, actions: &str) -> Self {
        let scopes = vec![format!("repository:{repository}:{actions}")];
        Self { repository: Some(repository.clone()), scopes }
    }

    /// Which repository's credentials are to be used.
    pub(super) fn repository(&self) -> Option<&RepositoryName> {
        self.repository.as_ref()
    }

    /// The scopes of the token.
    pub(super) fn scopes(&self) -> &[String] {
        &self.scopes
    }

    /// These scopes, and those among `asked` that are about something else: what a registry asks for
    /// and we did not think of.
    pub(super) fn scopes_with(&self, asked: &[String]) -> Vec<String> {
        let resource = |scope: &str| scope.rsplit_once(':').map(|(name, _)| name.to_owned());
        let mut scopes = self.scopes.clone();
        for scope in asked {
            if !self.scopes.iter().any(|own| resource(own) == resource(scope)) {
                scopes.push(scope.clone());
            }
        }
        scopes
    }

    /// Wider rights whose token serves as well where there is one.
    pub(super) fn wider(&self) -> Option<Self> {
        let repository = self.repository.as_ref()?;
        let push = Self::push(repository);
        (self.scopes == Self::pull(repository).scopes).then_some(push)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_say_what_a_request_does() {
        let repository: RepositoryName = "a/b".parse().expect("valid");
        let from: RepositoryName = "c".parse().expect("valid");
        assert_eq!(Access::pull(&repository).scopes(), ["repository:a/b:pull"]);
        assert_eq!(
            Access::mount(&repository, &from).scopes(),
            ["repository:a/b:pull,push", "repository:c:pull"]
        );
        assert!(Access::push(&repository).wider().is_none());
        let asked = ["repository:a/b:delete".to_owned(), "registry:catalog:*".to_owned()];
        assert_eq!(
            Access::pull(&repository).scopes_with(&asked),
            ["repository:a/b:pull", "registry:catalog:*"]
        );
    }
}
